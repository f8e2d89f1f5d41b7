"""The routes `/v1/files` and `/v1/uploads`, in OpenAI's format, and those of `completions` and `management`.

The files and uploads themselves are in models/files/stored_files.py and models/files/uploads.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.database import Database
from models.errors import Invalid, NotFound
from models.files.stored_files import (
    BATCH,
    MAX_LISTED,
    Files,
    StoredFile,
    parse_expires_after,
    validate_purpose,
)
from models.files.uploads import Upload, UploadPart, Uploads
from models.http.file_access import file_access
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
from models.settings.settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `models`."""
    from starlette.routing import Route

    from models.api_operations import OPERATIONS
    from models.completions.response_routes import response_routes
    from models.completions.routes import completion_routes
    from models.management.routes import management_routes

    files = _FileRoutes(settings, database)
    uploads = _UploadRoutes(Uploads(settings, database))
    files_and_uploads = [
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
    stored = completion_routes(database) + response_routes(database)
    return attach_operations(files_and_uploads, OPERATIONS) + stored + management_routes(database)


class _FileRoutes:
    """`/v1/files`. Clients' keys may use them for their own files."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def _files(self, request: "Request") -> Files:
        """The files that the request's key may use."""
        return Files(self._settings, self._database, file_access(request))

    async def create(self, request: "Request") -> "Response":
        """Stores an uploaded file. The form's fields are checked at the end, because they may follow the file."""
        files = self._files(request)
        await run_in_thread(files.check_upload, BATCH, 0)  # before a client whose space is full sends its file
        async with threaded_context(files.incoming()) as incoming:
            form = await receive_form(request, "file", incoming)
            purpose = validate_purpose(form.fields.get("purpose"))
            lifetime = parse_expires_after(_form_expires_after(form.fields))
            await run_in_thread(files.check_upload, purpose, incoming.size)
            if is_retry(request) and (
                first := await run_in_thread(files.find_duplicate, incoming, form.filename, purpose)
            ):
                return json_response(file_to_json(first))
            stored = await run_in_thread(files.save, incoming, form.filename, purpose, expires_after=lifetime)
        return json_response(file_to_json(stored))

    async def page(self, request: "Request") -> "Response":
        query = request.query_params
        limit = query_integer(query, "limit", MAX_LISTED, least=1, most=MAX_LISTED)
        page = await run_in_thread(
            self._files(request).page,
            purpose=query.get("purpose") or None,
            after=query.get("after") or None,
            limit=limit,
            order=query.get("order") or "desc",
        )
        return json_response(list_page([file_to_json(file) for file in page.files], has_more=page.has_more))

    async def retrieve(self, request: "Request") -> "Response":
        file = await run_in_thread(self._files(request).get, request.path_params["file_id"])
        return json_response(file_to_json(file))

    async def delete(self, request: "Request") -> "Response":
        file_id = request.path_params["file_id"]
        await run_in_thread(self._files(request).delete, file_id)
        return json_response({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: "Request") -> "Response":
        from starlette.responses import FileResponse

        file = await run_in_thread(self._files(request).get, request.path_params["file_id"])
        if not await run_in_thread(file.path.is_file):
            raise NotFound(f"The content of {file.id!r} is missing from {file.path.parent.name}/.", param="file_id")
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
            raise Invalid("bytes must be the size of the whole file, an integer.", param="bytes")
        upload = await run_in_thread(
            self._uploads.create,
            filename=_text(body, "filename"),
            purpose=validate_purpose(body.get("purpose")),
            size=size,
            mime_type=_text(body, "mime_type"),
            file_expires_after=parse_expires_after(body.get("expires_after")),
        )
        return json_response(upload_to_json(upload))

    async def add_part(self, request: "Request") -> "Response":
        upload_id = request.path_params["upload_id"]
        async with threaded_context(await run_in_thread(self._uploads.incoming_part, upload_id)) as incoming:
            await receive_form(request, "data", incoming)
            part = await run_in_thread(self._uploads.save_part, upload_id, incoming)
        return json_response(part_to_json(part))

    async def complete(self, request: "Request") -> "Response":
        body = await read_json_object(request)
        part_ids = body.get("part_ids")
        if not isinstance(part_ids, list) or not part_ids or not all(isinstance(part_id, str) for part_id in part_ids):
            raise Invalid("part_ids must be the ids of the parts, in order.", param="part_ids")
        md5 = body.get("md5")
        if md5 is not None and not isinstance(md5, str):
            raise Invalid("md5 must be a string: the MD5 of the whole file in hex.", param="md5")
        done = await run_in_thread(self._uploads.complete, request.path_params["upload_id"], part_ids, md5)
        return json_response(upload_to_json(done))

    async def cancel(self, request: "Request") -> "Response":
        return json_response(
            upload_to_json(await run_in_thread(self._uploads.cancel, request.path_params["upload_id"]))
        )


def file_to_json(file: StoredFile) -> dict[str, Any]:
    """A file in OpenAI's format. Its status is always `processed`: a file is checked when it is used."""
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


def upload_to_json(upload: Upload) -> dict[str, Any]:
    """An upload in OpenAI's format."""
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": int(upload.created.timestamp()),
        "expires_at": int(upload.expires.timestamp()),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": upload.status,
        "file": file_to_json(upload.file) if upload.file else None,
    }


def part_to_json(part: UploadPart) -> dict[str, Any]:
    """A part in OpenAI's format."""
    return {
        "id": part.id,
        "object": "upload.part",
        "created_at": int(part.created.timestamp()),
        "upload_id": part.upload_id,
    }


def _form_expires_after(fields: Mapping[str, str]) -> dict[str, Any] | None:
    """Reads `expires_after[anchor]` and `expires_after[seconds]` from a form."""
    given: dict[str, Any] = {
        name: fields[key] for name in ("anchor", "seconds") if (key := f"expires_after[{name}]") in fields
    }
    seconds = given.get("seconds", "")
    if seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        given["seconds"] = int(seconds)
    return given or None


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Invalid(f"{name} must be a non-empty string.", param=name)
    return value
