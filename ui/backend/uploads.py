"""Where an owner's browser sends a file: kept among the uploaded files, for the Train and the Evaluations tab.

It does not go through Gradio, which would keep a copy of its own. What the browser does is in upload.js.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import Invalid, ParleyError
from models.files import Files, StoredFile
from ui.backend.context import Room, friendly

KEEP = "/data/files"
PURPOSE = "fine-tune"
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
TASKS = "evals"
TASK_SUFFIXES = (".jsonl", ".csv", ".tsv")
_TAKEN: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {PURPOSE: ("training data", SUFFIXES), TASKS: ("a task", TASK_SUFFIXES)}
)


class UploadDesk:
    """`POST /data/files` of the page, as an ASGI app: the body is the file, the header `x-filename` its name, and
    `x-purpose` what it is for: fine-tune or evals."""

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
        purpose = request.headers.get("x-purpose", PURPOSE)
        if purpose not in _TAKEN:
            raise Invalid(f"Files are taken for {' and '.join(_TAKEN)} here.", param="purpose")
        what, suffixes = _TAKEN[purpose]
        if not name.lower().endswith(suffixes):
            raise Invalid(f"{name}: {what} is {', '.join(suffixes)}.", param="file")
        with self._files.incoming() as incoming:
            async for piece in request.stream():
                await asyncio.to_thread(incoming.write, piece)
            return await asyncio.to_thread(self._files.save, incoming, name, purpose)


def named_path(room: Room, file_id: str) -> Path:
    """The stored file under a name with its own suffix, by which its format is known."""
    stored = Files(room.settings, room.database).get(file_id)
    place = room.settings.runs_dir / "data" / stored.id / Path(stored.filename).name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stored.path, place)
        except OSError:  # a file system without links
            shutil.copyfile(stored.path, place)
    return place


def file_entry(file: StoredFile) -> str:
    """A stored file in a list: its name, its size, when it came."""
    size = f"{file.size / 1e6:.1f} MB" if file.size >= 1e6 else f"{max(1, round(file.size / 1e3))} KB"
    return f"{file.filename} · {size} · {file.created:%m-%d %H:%M}"


def _json(content: object, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
