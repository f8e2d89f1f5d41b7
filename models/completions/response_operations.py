"""The OpenAPI description of stored responses."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from models.completions.stored_completions import MAX_LISTED
from models.http.operations import ListPage, Operation, Shape

# What OpenAI's `include` may contain.
INCLUDABLE = (
    "file_search_call.results", "web_search_call.results", "web_search_call.action.sources",
    "message.input_image.image_url", "computer_call_output.output.image_url", "code_interpreter_call.outputs",
    "reasoning.encrypted_content", "message.output_text.logprobs",
)  # fmt: skip
_RESPONSE = "/v1/responses/{response_id}"


class StoredResponse(Shape):
    """A response as it was sent."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    status: str
    model: str
    output: list[dict[str, Any]]
    previous_response_id: str | None
    store: Literal[True]
    metadata: dict[str, str]


class ResponseDeleted(Shape):
    """A deleted response."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItem(Shape):
    """An item of a response's input, or of the turns that it continues."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str


class InputItemList(ListPage):
    """One page of items."""

    data: list[InputItem]


class InputItemsQuery(Shape):
    """Parameters of a page of items."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20
    order: Literal["asc", "desc"] = "desc"


OPERATIONS = (
    Operation("GET", _RESPONSE, "Retrieve a stored response.", "Responses", StoredResponse, errors=(404,)),
    Operation("DELETE", _RESPONSE, "Delete a stored response.", "Responses", ResponseDeleted, errors=(404,)),
    Operation(
        "GET", f"{_RESPONSE}/input_items", "List the input items of a stored response, and of the turns before it.",
        "Responses", InputItemList, query=InputItemsQuery, errors=(404,),
    ),
    Operation(
        "POST", f"{_RESPONSE}/cancel", "Always an error: only background responses can be cancelled.", "Responses",
        StoredResponse, errors=(404,),
    ),
)  # fmt: skip
