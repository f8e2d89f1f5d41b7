"""Where an owner's browser sends a file of conversations: kept among the uploaded files, for the Train tab.

It does not go through Gradio, which would keep a copy of its own. What the browser does is in train.js.
"""

import asyncio
from urllib.parse import unquote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import Invalid, ParleyError
from models.files import Files, StoredFile
from ui.room import Room, friendly

KEEP = "/data/files"
PURPOSE = "fine-tune"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class UploadDesk:
    """`POST /data/files` of the page, as an ASGI app: the body is the file, the header `x-filename` its name."""

    def __init__(self, room: Room) -> None:
        self._files = Files(room.settings, room.database)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            stored = await self._keep(request)
            answer = _json({"id": stored.id, "filename": stored.filename, "size": stored.size}, 200)
        except ParleyError as error:
            answer = _json(error.body(), error.status)
        except ClientDisconnect:
            return
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            answer = _json(ParleyError(friendly(error)).body(), 500)
        await answer(scope, receive, send)

    async def _keep(self, request: Request) -> StoredFile:
        name = unquote(request.headers.get("x-filename", ""))
        if request.method != "POST" or not name:
            raise Invalid("Send a file, and its name in the header x-filename.")
        if not name.lower().endswith(SUFFIXES):
            raise Invalid(f"{name}: training data is {', '.join(SUFFIXES)}.", param="file")
        with self._files.incoming() as incoming:
            async for piece in request.stream():
                await asyncio.to_thread(incoming.write, piece)
            return await asyncio.to_thread(self._files.keep, incoming, name, PURPOSE)


def _json(content: object, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
