"""The upload endpoint of the owners' app, and the uploaded files that the Train and Evaluations tabs offer.

Uploads bypass Gradio, which would store a second copy. upload.js sends them.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from models.errors import Invalid, ParleyError
from models.files.file_kinds import TRAINING_SUFFIXES
from models.files.stored_files import Files, StoredFile
from ui.backend.context import PageContext, error_message

_log = logging.getLogger("parley.page")
UPLOAD_PATH = "/data/files"
TRAINING_PURPOSE = "fine-tune"
TASK_PURPOSE = "evals"
TASK_SUFFIXES = (".jsonl", ".csv", ".tsv")
LOGO_PURPOSE = "bot-logo"
LOGO_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# For each purpose, what the file is called in an error and which suffixes it may have.
_ACCEPTED: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        TRAINING_PURPOSE: ("training data", TRAINING_SUFFIXES),
        TASK_PURPOSE: ("a task", TASK_SUFFIXES),
        LOGO_PURPOSE: ("a logo", LOGO_SUFFIXES),
    }
)


class UploadEndpoint:
    """`/data/files` of the page as an ASGI app. POST stores the body as a file; GET with `?id=` returns a stored file.

    The header `x-filename` holds the percent-encoded name; `x-purpose` is fine-tune, evals or bot-logo.
    """

    def __init__(self, context: PageContext) -> None:
        self._files = Files(context.settings, context.database)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            if request.method == "GET":
                stored = await asyncio.to_thread(self._files.get, request.query_params.get("id", ""))
                download = FileResponse(stored.path, filename=stored.filename, media_type="application/octet-stream")
                await download(scope, receive, send)
                return
            stored = await self._store(request)
            response = json_response({"id": stored.id, "filename": stored.filename, "size": stored.size})
        except ClientDisconnect:
            return
        except Exception as error:  # shown as a line on the page, not as a pop-up
            response = error_response(error)
        await response(scope, receive, send)

    async def _store(self, request: Request) -> StoredFile:
        name = unquote(request.headers.get("x-filename", ""))
        if request.method != "POST" or not name:
            raise Invalid("Send the file as the body of a POST, and its name in the header x-filename.")
        purpose = request.headers.get("x-purpose", TRAINING_PURPOSE)
        if purpose not in _ACCEPTED:
            raise Invalid(f"Unknown purpose {purpose!r}: use {' or '.join(_ACCEPTED)}.", param="purpose")
        content, suffixes = _ACCEPTED[purpose]
        if not name.lower().endswith(suffixes):
            raise Invalid(f"{name}: {content} must be a {', '.join(suffixes)} file.", param="file")
        with self._files.incoming() as incoming:
            async for piece in request.stream():
                await asyncio.to_thread(incoming.write, piece)
            return await asyncio.to_thread(self._files.save, incoming, name, purpose)


def json_response(content: object, status: int = 200) -> Response:
    """`content` as a JSON response."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def error_response(error: Exception) -> Response:
    """The error in OpenAI's error body; an unexpected one without its internals."""
    return json_response(error_body(error), error.status if isinstance(error, ParleyError) else ParleyError.status)


def error_body(error: Exception) -> dict[str, Any]:
    """OpenAI's error body; of an unexpected error without its internals, which go to the page's log."""
    if isinstance(error, ParleyError):
        return error.body()
    _log.error("a request of the page failed", exc_info=error)
    return ParleyError(error_message(error)).body()


def path_with_suffix(context: PageContext, file_id: str) -> Path:
    """A stored file under its original name, because its suffix tells the format."""
    stored = Files(context.settings, context.database).get(file_id)
    path = context.settings.runs_dir / "data" / stored.id / Path(stored.filename).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stored.path, path)
        except OSError:  # a file system without hard links
            shutil.copyfile(stored.path, path)
    return path


def file_label(file: StoredFile) -> str:
    """A stored file's name, size and upload time, for a dropdown."""
    size = f"{file.size / 1e6:.1f} MB" if file.size >= 1e6 else f"{max(1, round(file.size / 1e3))} KB"
    return f"{file.filename} · {size} · {file.created:%m-%d %H:%M}"
