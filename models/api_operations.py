"""What `/v1/files` and `/v1/uploads` take and answer, as models: for the OpenAPI document. The routes do not use it."""

from typing import Annotated, Literal

from pydantic import Field

from models.files import MAX_LISTED
from models.http.operations import Operation, Shape

Purpose = Literal["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
_Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
_Life = Annotated[int, Field(ge=3600, le=2_592_000)]


class ExpiresAfter(Shape):
    """When a file goes by itself."""

    anchor: Literal["created_at"]
    seconds: _Life


class FileForm(Shape):
    """A file to keep. `expires_after[anchor]` and `expires_after[seconds]` may stand beside."""

    file: bytes
    purpose: Purpose


class PartForm(Shape):
    """A part of a large file, 64 MiB at most."""

    data: bytes


class FilesQuery(Shape):
    """Which files to list."""

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


class FileList(Shape):
    """One page of files."""

    object: Literal["list"]
    data: list[File]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FileDeleted(Shape):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class UploadCreate(Shape):
    """A large file that will come in parts; `bytes` is its whole size."""

    filename: _Name
    purpose: Purpose
    bytes: Annotated[int, Field(ge=1)]
    mime_type: _Name
    expires_after: ExpiresAfter | None = None


class UploadComplete(Shape):
    """The parts in their order, and the MD5 of the whole in hex."""

    part_ids: Annotated[list[str], Field(min_length=1)]
    md5: str | None = None


class Upload(Shape):
    """A large file on its way."""

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
    """A part that has come."""

    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str


_FILE, _UPLOAD = "/v1/files/{file_id}", "/v1/uploads/{upload_id}"
OPERATIONS = (
    Operation("POST", "/v1/files", "Upload a file.", "Files", File, form=FileForm, errors=(507,)),
    Operation("GET", "/v1/files", "List files.", "Files", FileList, query=FilesQuery),
    Operation("GET", _FILE, "Retrieve a file's description.", "Files", File, errors=(404,)),
    Operation("DELETE", _FILE, "Delete a file.", "Files", FileDeleted, errors=(404, 409)),
    Operation("GET", f"{_FILE}/content", "Download a file.", "Files", "application/octet-stream", errors=(404,)),
    Operation("POST", "/v1/uploads", "Announce a large file.", "Uploads", Upload, body=UploadCreate, errors=(507,)),
    Operation(
        "POST", f"{_UPLOAD}/parts", "Send a part of it.", "Uploads", UploadPart, form=PartForm, errors=(404, 409, 507)
    ),
    Operation(
        "POST", f"{_UPLOAD}/complete", "Make a file of the parts.", "Uploads", Upload, body=UploadComplete,
        errors=(404, 409, 507),
    ),
    Operation("POST", f"{_UPLOAD}/cancel", "Throw the parts away.", "Uploads", Upload, errors=(404, 409)),
)  # fmt: skip
