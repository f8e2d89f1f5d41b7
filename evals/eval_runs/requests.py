"""The requests of the evals API, with OpenAI's fields and limits. They are stored as the JSON that was sent."""

from typing import Annotated, Any, Literal

from pydantic import Field

from evals.graders.shapes import AnyGrader, Single, TemplateMessage, Text
from models.http.bodies import Body, Metadata

MAX_CRITERIA = 64
Order = Literal["asc", "desc"]
RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
_Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]
_Time = Annotated[int, Field(ge=0, le=2**53)]


class CustomConfig(Body):
    """Custom data: the JSON schema of an item, and whether a model answers."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool | None = None


class StoredConfig(Body):
    """Stored completions, chosen by their metadata."""

    type: Literal["logs", "stored_completions"]
    metadata: dict[str, Any] | None = None


class EvalCreate(Body):
    """A new eval: the data that its runs will have, and the graders."""

    data_source_config: Annotated[CustomConfig | StoredConfig, Field(discriminator="type")]
    testing_criteria: Annotated[list[Single], Field(max_length=MAX_CRITERIA)]
    name: Annotated[str, Field(max_length=1024)] | None = None
    metadata: Metadata | None = None


class EvalUpdate(Body):
    """The fields of an eval that may change. A null name changes nothing; null metadata removes the metadata."""

    name: Annotated[str, Field(max_length=1024)] | None = None
    metadata: Metadata | None = None


class Row(Body):
    """One item, with an answer if there is one already."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Body):
    """The rows themselves."""

    type: Literal["file_content"]
    content: Annotated[list[Row], Field(min_length=1)]


class FileId(Body):
    """An uploaded JSONL file of rows."""

    type: Literal["file_id"]
    id: Annotated[str, Field(min_length=1, max_length=64)]


class StoredCompletions(Body):
    """Filters for stored chat completions: model, metadata and creation time; at most `limit` of the newest."""

    type: Literal["stored_completions"]
    created_after: _Time | None = None
    created_before: _Time | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    metadata: Metadata | None = None
    model: str | None = None


class StoredResponses(Body):
    """Filters for stored responses; `instructions_search` is a part of the instructions, `tools` are names."""

    type: Literal["responses"]
    created_after: _Time | None = None
    created_before: _Time | None = None
    instructions_search: str | None = None
    metadata: Metadata | None = None
    model: str | None = None
    reasoning_effort: str | None = None
    temperature: float | None = None
    tools: list[str] | None = None
    top_p: float | None = None
    users: list[str] | None = None


class Template(Body):
    """Messages with variables of the item."""

    type: Literal["template"]
    template: Annotated[list[TemplateMessage], Field(min_length=1)]


class ItemReference(Body):
    """The messages in a field of the item, such as `item.conversation`."""

    type: Literal["item_reference"]
    item_reference: Annotated[str, Field(min_length=1, max_length=255)]


class TextFormat(Body):
    """The format of a response's text, as /v1/responses names it."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class RunSampling(Body):
    """How the model is sampled. Fields that are not sent are not passed to the model either."""

    max_completion_tokens: _Tokens | None = None
    max_completions_tokens: _Tokens | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextFormat | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None


class JsonlSource(Body):
    """Rows that are graded as they are: no model answers."""

    type: Literal["jsonl"]
    source: Annotated[FileContent | FileId, Field(discriminator="type")]


class CompletionsSource(Body):
    """Rows that a model answers."""

    type: Literal["completions"]
    source: Annotated[FileContent | FileId | StoredCompletions, Field(discriminator="type")]
    model: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")] | None = None
    sampling_params: RunSampling | None = None


class ResponsesSource(Body):
    """As `CompletionsSource`, with the field names of /v1/responses."""

    type: Literal["responses"]
    source: Annotated[FileContent | FileId | StoredResponses, Field(discriminator="type")]
    model: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")] | None = None
    sampling_params: RunSampling | None = None


class RunCreate(Body):
    """A new run of an eval."""

    data_source: Annotated[JsonlSource | CompletionsSource | ResponsesSource, Field(discriminator="type")]
    name: Annotated[str, Field(max_length=1024)] | None = None
    metadata: Metadata | None = None


class GraderValidate(Body):
    """A grader to check."""

    grader: AnyGrader


class GraderRun(Body):
    """A grader, and the answer and item to grade."""

    grader: AnyGrader
    model_sample: Text
    item: dict[str, Any] | None = None
