"""The bodies and the OpenAPI description of `/v1/batches`. Which fields a batch has is decided by the SDK's types."""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.files.stored_files import MAX_LIFETIME_S, MIN_LIFETIME_S
from models.http.bodies import Body, Metadata
from models.http.operations import ListPage, Operation, Shape

MAX_LISTED = 100
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"]
_Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]


class OutputExpiresAfter(Body):
    """When the output and error files are deleted, in seconds after they were created."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)]


class BatchCreate(Body):
    """A batch to run. `input_file_id` is a file with the purpose `batch`."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=255)]
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None


class BatchesQuery(Shape):
    """Parameters of a list of batches, newest first."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20


class BatchError(Shape):
    """Why a batch failed; `line` is a line of the input file."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(Shape):
    """The first errors of a batch that failed."""

    object: Literal["list"]
    data: list[BatchError]


class RequestCounts(Shape):
    """Requests of a batch by their outcome so far."""

    total: int
    completed: int
    failed: int


class Batch(Shape):
    """A batch. Times are in Unix seconds."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: _Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: dict[str, Any] | None
    metadata: dict[str, str] | None


class BatchList(ListPage):
    """One page of batches."""

    data: list[Batch]


_BATCHES, _BATCH = "/v1/batches", "/v1/batches/{batch_id}"
OPERATIONS = (
    Operation("POST", _BATCHES, "Create a batch.", "Batches", Batch, body=BatchCreate),
    Operation("GET", _BATCHES, "List batches.", "Batches", BatchList, query=BatchesQuery, errors=(404,)),
    Operation("GET", _BATCH, "Retrieve a batch.", "Batches", Batch, errors=(404,)),
    Operation("POST", f"{_BATCH}/cancel", "Cancel a batch.", "Batches", Batch, errors=(404, 409)),
)
