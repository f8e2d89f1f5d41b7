"""Requests and answers of the gateway's own routes, as models: for the OpenAPI document alone.

They say what a client may count on. A relayed request may have more fields than are named here:
`serve.validation.fields` knows which an engine gets, and a hosted upstream gets them all.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.http.operations import Shape
from serve.validation.field_limits import MAX_INPUTS, MAX_LENGTHS, MAX_NUMBERS

_Model = Annotated[str, Field(min_length=1, description="The id of a model, or an alias of one.")]
_N = Annotated[int, Field(ge=1, le=MAX_NUMBERS["n"])]
_Temperature = Annotated[float, Field(ge=0, le=2)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Tokens = Annotated[int, Field(ge=1)]
_Stop = str | Annotated[list[str], Field(max_length=4)]
_Bias = Annotated[dict[str, float], Field(max_length=MAX_LENGTHS["logit_bias"])]


class ErrorDetail(Shape):
    """What is wrong, for people and for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Shape):
    """OpenAI's error body, which every error here has."""

    error: ErrorDetail


class Health(Shape):
    """The process lives."""

    status: Literal["ok"]


class Ready(Shape):
    """Requests can be answered, or why not."""

    status: str


class ModelFacts(Shape):
    """What is ours in a model's description."""

    kind: str
    state: str
    base: str | None


class Model(Shape):
    """A model as OpenAI's clients read it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parley: ModelFacts


class ModelList(Shape):
    """Every model that is listed."""

    object: Literal["list"]
    data: list[Model]


class ModelDeleted(Shape):
    """A name that is gone; weights and votes stay."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


class StreamOptions(Shape):
    """`include_usage`: the last frame carries the usage. Ignored without `stream`."""

    include_usage: bool | None = None


class _Generating(Shape):
    model: _Model
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: _N | None = None
    max_tokens: _Tokens | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: _Bias | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stop | None = None
    user: str | None = None


class Message(Shape):
    """A message of a chat. Its content is a text, or parts of which media come as `data:` URLs."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(_Generating):
    """A chat to go on with."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: _Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_NUMBERS["top_logprobs"])] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_LENGTHS["tools"])] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Generating):
    """A text to go on with."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=128)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None


class EmbeddingsRequest(Shape):
    """Texts to embed."""

    model: _Model
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: _Tokens | None = None
    user: str | None = None


class ResponsesRequest(Shape):
    """A request of the Responses API, for models whose server has it."""

    model: _Model
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: _Tokens | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None


class Usage(Shape):
    """Tokens that were read and written."""

    prompt_tokens: int
    total_tokens: int


class _Answer(Shape):
    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]


class Generated(_Answer):
    """A whole answer: OpenAI's `chat.completion` or `text_completion`."""

    usage: Usage | None = None


class Frame(_Answer):
    """A frame of a streamed answer. `data: [DONE]` ends a stream that is whole; `data: {"error": …}` one that broke."""


class Embedded(Shape):
    """One text's embedding: numbers, or their bytes in base64."""

    index: int
    object: Literal["embedding"]
    embedding: list[float] | str


class Embeddings(Shape):
    """Embeddings, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedded]
    model: str
    usage: Usage


class Response(Shape):
    """A response, as the model's server has it."""

    id: str
    object: Literal["response"]


class ResponseEvent(Shape):
    """An event of a streamed response."""

    type: str
