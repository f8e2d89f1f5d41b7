"""The OpenAPI description of `/v1/files` and `/v1/uploads`. The routes do not use it."""

from typing import Annotated, Literal

from pydantic import Field

from models.files.stored_files import MAX_LISTED
from models.http.operations import ListPage, Operation, Shape

Purpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
_Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
_Lifetime = Annotated[int, Field(ge=3600, le=2_592_000)]


class ExpiresAfter(Shape):
    """When a file is deleted automatically."""

    anchor: Literal["created_at"]
    seconds: _Lifetime


class FileForm(Shape):
    """A file to store. `expires_after[anchor]` and `expires_after[seconds]` are optional fields."""

    file: bytes
    purpose: Purpose


class PartForm(Shape):
    """A part of a large file, at most 64 MiB."""

    data: bytes


class FilesQuery(Shape):
    """Parameters of a list of files."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = MAX_LISTED
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class File(Shape):
    """An uploaded file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class FileList(ListPage):
    """One page of files."""

    data: list[File]


class FileDeleted(Shape):
    """A deleted file."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class UploadCreate(Shape):
    """A large file to upload in parts; `bytes` is its total size."""

    filename: _Name
    purpose: Purpose
    bytes: Annotated[int, Field(ge=1)]
    mime_type: _Name
    expires_after: ExpiresAfter | None = None


class UploadComplete(Shape):
    """The parts in order, and optionally the MD5 of the whole file in hex."""

    part_ids: Annotated[list[str], Field(min_length=1)]
    md5: str | None = None


class Upload(Shape):
    """An upload in parts."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


class UploadPart(Shape):
    """An uploaded part."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


_FILE, _UPLOAD = "/v1/files/{file_id}", "/v1/uploads/{upload_id}"
OPERATIONS = (
    Operation("POST", "/v1/files", "Upload a file.", "Files", File, form=FileForm, errors=(507,)),
    Operation("GET", "/v1/files", "List files.", "Files", FileList, query=FilesQuery),
    Operation("GET", _FILE, "Retrieve a file's metadata.", "Files", File, errors=(404,)),
    Operation("DELETE", _FILE, "Delete a file.", "Files", FileDeleted, errors=(404, 409)),
    Operation("GET", f"{_FILE}/content", "Download a file.", "Files", "application/octet-stream", errors=(404,)),
    Operation("POST", "/v1/uploads", "Start a multi-part upload.", "Uploads", Upload, body=UploadCreate, errors=(507,)),
    Operation(
        "POST", f"{_UPLOAD}/parts", "Upload a part.", "Uploads", UploadPart, form=PartForm, errors=(404, 409, 507)
    ),
    Operation(
        "POST", f"{_UPLOAD}/complete", "Complete an upload.", "Uploads", Upload, body=UploadComplete,
        errors=(404, 409, 507),
    ),
    Operation("POST", f"{_UPLOAD}/cancel", "Cancel an upload.", "Uploads", Upload, errors=(404, 409)),
)  # fmt: skip
