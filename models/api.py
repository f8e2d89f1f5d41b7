"""This room's routes on the gateway: `/v1/files` and `/v1/uploads`, as OpenAI has them. Light to import.

It knows HTTP and OpenAI's shapes; files and uploads themselves are in models/files.py and models/uploads.py.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from models.database import Database
from models.errors import Invalid, NotFound
from models.files import MAX_LISTED, Files, StoredFile, validate_purpose
from models.http.multipart import receive_form
from models.http.operations import attach_operations
from models.http.payloads import (
    is_retry,
    json_response,
    list_page,
    query_integer,
    read_json_object,
    run_in_thread,
    threaded_context,
)
from models.settings import Settings
from models.uploads import Upload, UploadPart, Uploads

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

# OpenAI's bounds for `expires_after`: an hour and thirty days.
_SHORTEST_LIFE_S, _LONGEST_LIFE_S = 3600, 2_592_000


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `models`."""
    from starlette.routing import Route

    from models.api_operations import OPERATIONS

    files = _FileRoutes(Files(settings, database))
    uploads = _UploadRoutes(Uploads(settings, database))
    found = [
        Route("/v1/files", files.create, methods=["POST"]),
        Route("/v1/files", files.page, methods=["GET"]),
        Route("/v1/files/{file_id}", files.retrieve, methods=["GET"]),
        Route("/v1/files/{file_id}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", files.content, methods=["GET"]),
        Route("/v1/uploads", uploads.create, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/parts", uploads.add_part, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/complete", uploads.complete, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/cancel", uploads.cancel, methods=["POST"]),
    ]
    return attach_operations(found, OPERATIONS)


class _FileRoutes:
    """`/v1/files`."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def create(self, request: "Request") -> "Response":
        """The file may come before or after the form's other fields, so they are looked at when all is there."""
        async with threaded_context(self._files.incoming()) as incoming:
            form = await receive_form(request, "file", incoming)
            purpose = validate_purpose(form.fields.get("purpose"))
            life = _life(_expires_after_of(form.fields))
            if is_retry(request) and (
                first := await run_in_thread(self._files.find_duplicate, incoming, form.filename, purpose)
            ):
                return json_response(shown_file(first))
            stored = await run_in_thread(self._files.save, incoming, form.filename, purpose, expires_after=life)
        return json_response(shown_file(stored))

    async def page(self, request: "Request") -> "Response":
        query = request.query_params
        limit = query_integer(query, "limit", MAX_LISTED, least=1, most=MAX_LISTED)
        page = await run_in_thread(
            self._files.page,
            purpose=query.get("purpose") or None,
            after=query.get("after") or None,
            limit=limit,
            order=query.get("order") or "desc",
        )
        return json_response(list_page([shown_file(file) for file in page.files], has_more=page.has_more))

    async def retrieve(self, request: "Request") -> "Response":
        return json_response(shown_file(await run_in_thread(self._files.get, request.path_params["file_id"])))

    async def delete(self, request: "Request") -> "Response":
        file_id = request.path_params["file_id"]
        await run_in_thread(self._files.delete, file_id)
        return json_response({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: "Request") -> "Response":
        from starlette.responses import FileResponse

        file = await run_in_thread(self._files.get, request.path_params["file_id"])
        if not await run_in_thread(file.path.is_file):
            raise NotFound(f"The bytes of {file.id!r} are gone from {file.path.parent.name}/.", param="file_id")
        headers = {"x-content-type-options": "nosniff"}
        return FileResponse(file.path, 200, headers, "application/octet-stream", filename=file.filename)


class _UploadRoutes:
    """`/v1/uploads`."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def create(self, request: "Request") -> "Response":
        body = await read_json_object(request)
        size = body.get("bytes")
        if not isinstance(size, int) or isinstance(size, bool):
            raise Invalid("bytes must be the size of the whole file, a whole number.", param="bytes")
        upload = await run_in_thread(
            self._uploads.create,
            filename=_text(body, "filename"),
            purpose=validate_purpose(body.get("purpose")),
            size=size,
            mime_type=_text(body, "mime_type"),
            file_expires_after=_life(body.get("expires_after")),
        )
        return json_response(shown_upload(upload))

    async def add_part(self, request: "Request") -> "Response":
        upload_id = request.path_params["upload_id"]
        async with threaded_context(await run_in_thread(self._uploads.incoming_part, upload_id)) as incoming:
            await receive_form(request, "data", incoming)
            part = await run_in_thread(self._uploads.save_part, upload_id, incoming)
        return json_response(shown_part(part))

    async def complete(self, request: "Request") -> "Response":
        body = await read_json_object(request)
        part_ids = body.get("part_ids")
        if not isinstance(part_ids, list) or not part_ids or not all(isinstance(one, str) for one in part_ids):
            raise Invalid("part_ids must be the ids of the parts, in their order.", param="part_ids")
        md5 = body.get("md5")
        if md5 is not None and not isinstance(md5, str):
            raise Invalid("md5 must be text: the MD5 of the whole file in hex.", param="md5")
        done = await run_in_thread(self._uploads.complete, request.path_params["upload_id"], part_ids, md5)
        return json_response(shown_upload(done))

    async def cancel(self, request: "Request") -> "Response":
        return json_response(shown_upload(await run_in_thread(self._uploads.cancel, request.path_params["upload_id"])))


def shown_file(file: StoredFile) -> dict[str, Any]:
    """A file in OpenAI's shape. It is `processed` as it comes: who uses it checks it, as OpenAI does since 2023."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created.timestamp()),
        "expires_at": int(file.expires.timestamp()) if file.expires else None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def shown_upload(upload: Upload) -> dict[str, Any]:
    """An upload in OpenAI's shape."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": int(upload.created.timestamp()),
        "expires_at": int(upload.expires.timestamp()),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": shown_file(upload.file) if upload.file else None,
    }


def shown_part(part: UploadPart) -> dict[str, Any]:
    """A part in OpenAI's shape."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created.timestamp()),
        "upload_id": part.upload_id,
    }


def _expires_after_of(fields: Mapping[str, str]) -> dict[str, Any] | None:
    """`expires_after[anchor]` and `expires_after[seconds]`, as forms carry them."""
    given: dict[str, Any] = {
        name: fields[key] for name in ("anchor", "seconds") if (key := f"expires_after[{name}]") in fields
    }
    seconds = given.get("seconds", "")
    if seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        given["seconds"] = int(seconds)
    return given or None


def _life(expires_after: Any) -> timedelta | None:
    if expires_after is None:
        return None
    if not isinstance(expires_after, dict) or expires_after.get("anchor") != "created_at":
        raise Invalid("expires_after.anchor must be created_at.", param="expires_after.anchor")
    seconds = expires_after.get("seconds")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not _SHORTEST_LIFE_S <= seconds <= _LONGEST_LIFE_S:
        raise Invalid(
            f"expires_after.seconds must be from {_SHORTEST_LIFE_S} to {_LONGEST_LIFE_S}.",
            param="expires_after.seconds",
        )
    return timedelta(seconds=seconds)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{name} must be text.", param=name)
    return value
