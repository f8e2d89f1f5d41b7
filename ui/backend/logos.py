"""`/bot/<model>/logo`: the image that an owner stored for a bot. Everyone who may open the bot may load it."""

import asyncio
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import Invalid, NotFound
from models.files.stored_files import Files
from ui.backend.context import PageContext

MAX_BYTES = 1_000_000
# Bitmaps only: an SVG could contain a script.
_TYPES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"RIFF", "image/webp"))


class BotLogo:
    """The endpoint as an ASGI app; `ui.access.router` puts the model's id into the scope."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._files = Files(context.settings, context.database)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await asyncio.to_thread(self._image, scope["parley_bot"])
        except (NotFound, Invalid, OSError):
            response = Response("This bot has no logo.", 404, media_type="text/plain")
        await response(scope, receive, send)

    def _image(self, model: str) -> Response:
        profile = self._context.registry.resolve(model).bot
        path = self._files.get(profile.logo if profile else "").path
        kind = image_type(path)
        return Response(path.read_bytes(), media_type=kind, headers={"cache-control": "max-age=3600"})


def image_type(path: Path) -> str:
    """The media type of an image by its content.

    Raises:
        Invalid: it is not a PNG, JPEG or WebP image, or is larger than 1 MB.
    """
    with path.open("rb") as file:
        start = file.read(12)
    kind = next((kind for signature, kind in _TYPES if start.startswith(signature)), None)
    if kind is None or (kind == "image/webp" and start[8:] != b"WEBP"):
        raise Invalid("A logo must be a PNG, JPEG or WebP image.", param="logo")
    if path.stat().st_size > MAX_BYTES:
        raise Invalid("The logo is too large: upload an image of 1 MB at most.", param="logo")
    return kind
