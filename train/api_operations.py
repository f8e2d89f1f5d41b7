"""Requests and responses of the fine-tuning API and the data check as models, for the OpenAPI document only."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from models.http.operations import ListPage, Operation, Shape
from train.finetuning.requests import CreateRequest

_MOST = 1000


class Page(Shape):
    """Where a page begins, and its length."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=_MOST)] = 20


class JobsQuery(Page):
    """Which jobs to list. Metadata filters are `metadata[key]=value`; `null` lists jobs without metadata."""

    metadata: Literal["null"] | None = None


class JobError(Shape):
    """Why a job failed."""

    code: str | None
    message: str | None
    param: str | None


class Job(Shape):
    """A fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: str | None
    hyperparameters: dict[str, int | float | str]
    method: dict[str, Any]
    seed: int
    result_files: list[str]
    trained_tokens: int | None
    error: JobError | None
    integrations: list[dict[str, Any]] | None
    metadata: dict[str, str] | None
    user_provided_suffix: str | None


class JobEvent(Shape):
    """A message or a metrics event of a job."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None


class JobCheckpoint(Shape):
    """The model at the end of an epoch."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float | None]


class JobList(ListPage):
    """One page of jobs, newest first."""

    data: list[Job]


class EventList(ListPage):
    """One page of events, newest first."""

    data: list[JobEvent]


class CheckpointList(ListPage):
    """One page of checkpoints, newest first."""

    data: list[JobCheckpoint]


class _CheckOptions(Shape):
    validation_file: str | None = None
    format: str | None = None
    provider: Literal["openai", "together", "local"] = "openai"
    prompt_column: str | None = None
    response_column: str | None = None
    system_column: str | None = None
    system: str | None = None
    encoding: str | None = None
    separator: Literal["auto", "rule", "blank-line", "pair"] | None = None
    model: str | None = Field(default=None, description="Whose tokens are counted: a registered or an OpenAI model.")


class CheckForm(_CheckOptions):
    """A file to check; it is not stored."""

    file: bytes


class CheckRequest(_CheckOptions):
    """The id of an uploaded file to check."""

    file: str


class DataReport(Shape):
    """The problems of training data, line by line, and its lengths."""

    object: Literal["parley.data_report"]
    source: str
    format: str | None
    lines: int
    examples: int
    preferences: int
    left_out: int
    usable: bool
    errors: int
    warnings: int
    codes: dict[str, int]
    problems: list[dict[str, Any]]
    characters: dict[str, Any] | None
    turns: dict[str, Any] | None
    validation: dict[str, Any] | None


_JOBS, _TAG = "/v1/fine_tuning/jobs", "Fine-tuning"
_ONE = f"{_JOBS}/{{job_id}}"


def _of_a_job(
    method: str, what: str, summary: str, answer: type[BaseModel], query: type[BaseModel] | None = None
) -> Operation:
    return Operation(method, f"{_ONE}{what}", summary, _TAG, answer, query=query, errors=(404, 409))


OPERATIONS = (
    Operation(
        "POST", "/v1/parley/data/check", "Check training data.", "Data", DataReport, body=CheckRequest,
        form=CheckForm, errors=(404, 429, 507),
    ),
    Operation("POST", _JOBS, "Start a job.", _TAG, Job, body=CreateRequest, errors=(404, 409)),
    Operation("GET", _JOBS, "List jobs.", _TAG, JobList, query=JobsQuery, errors=(404,)),
    _of_a_job("GET", "", "Retrieve a job.", Job),
    _of_a_job("POST", "/cancel", "Cancel a job.", Job),
    _of_a_job("POST", "/pause", "Pause a job.", Job),
    _of_a_job("POST", "/resume", "Resume a job.", Job),
    _of_a_job("GET", "/events", "List a job's events.", EventList, Page),
    _of_a_job("GET", "/checkpoints", "List a job's checkpoints.", CheckpointList, Page),
)  # fmt: skip
