"""The bodies and the OpenAPI description of stored chat completions and of feedback."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from models.completions.stored_completions import MAX_LISTED
from models.http.bodies import Body, Metadata
from models.http.operations import ListPage, Operation, Shape

_Text = Annotated[str, Field(min_length=1, max_length=100_000)]
_COMPLETIONS = "/v1/chat/completions"
_COMPLETION = f"{_COMPLETIONS}/{{completion_id}}"


class CompletionUpdate(Body):
    """The part of a stored completion that may change: its metadata, at most 16 pairs."""

    metadata: Metadata | None


class FeedbackSource(Body):
    """Who or what judged the answer."""

    kind: Literal["human", "model", "code"] = "human"
    id: Annotated[str, Field(max_length=255)] = ""


class FeedbackCreate(Body):
    """Feedback on an answer. It has a value, a correction, a comment, or several of them.

    `id` is the answer's id, or the x-request-id of its response. `correction` is what the answer should have been.
    """

    id: Annotated[str, Field(min_length=1, max_length=255)]
    name: Annotated[str, Field(min_length=1, max_length=64)] = "rating"
    value: StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=10_000)] | None = None
    correction: _Text | None = None
    comment: _Text | None = None
    source: FeedbackSource = FeedbackSource()
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class CompletionsQuery(Shape):
    """Parameters of a list of stored completions; `metadata[key]=value` may come several times."""

    model: str | None = None
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20
    order: Literal["asc", "desc"] = "asc"


class PageQuery(Shape):
    """Parameters of a page of messages."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20
    order: Literal["asc", "desc"] = "asc"


class FeedbackQuery(Shape):
    """Parameters of a list of feedback; `id` is an answer's."""

    id: str | None = None
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = MAX_LISTED


class StoredChatCompletion(Shape):
    """A chat completion with the options of its request. The messages are at `…/messages`."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    request_id: str
    metadata: dict[str, str]


class StoredCompletionList(ListPage):
    """One page of stored completions."""

    data: list[StoredChatCompletion]


class StoredMessage(Shape):
    """A message of a stored request."""

    model_config = ConfigDict(extra="allow")

    id: str
    role: str
    content: str | None


class StoredMessageList(ListPage):
    """One page of messages."""

    data: list[StoredMessage]


class CompletionDeleted(Shape):
    """A deleted stored completion."""

    id: str
    object: Literal["chat.completion.deleted"]
    deleted: Literal[True]


class FeedbackObject(Shape):
    """Feedback as it was stored."""

    id: str
    object: Literal["feedback"]
    created_at: int
    answer_id: str
    name: str
    value: bool | float | str | None
    correction: str | None
    comment: str | None
    source: dict[str, str]


class FeedbackList(ListPage):
    """One page of feedback."""

    data: list[FeedbackObject]


OPERATIONS = (
    Operation(
        "GET", _COMPLETIONS, "List stored chat completions.", "Chat", StoredCompletionList, query=CompletionsQuery,
        errors=(404,),
    ),
    Operation("GET", _COMPLETION, "Retrieve a stored chat completion.", "Chat", StoredChatCompletion, errors=(404,)),
    Operation(
        "POST", _COMPLETION, "Replace the metadata of a stored chat completion.", "Chat", StoredChatCompletion,
        body=CompletionUpdate, errors=(404,),
    ),
    Operation("DELETE", _COMPLETION, "Delete a stored chat completion.", "Chat", CompletionDeleted, errors=(404,)),
    Operation(
        "GET", f"{_COMPLETION}/messages", "List the messages of a stored request.", "Chat", StoredMessageList,
        query=PageQuery, errors=(404,),
    ),
    Operation(
        "POST", "/v1/feedback", "Store feedback on an answer.", "Feedback", FeedbackObject, body=FeedbackCreate,
        errors=(409,),
    ),
    Operation("GET", "/v1/feedback", "List feedback, for owners.", "Feedback", FeedbackList, query=FeedbackQuery),
)  # fmt: skip
