"""The gateway's own routes for the OpenAPI document: their request and response schemas, and their descriptions.

The schemas describe what clients can rely on. An inference request may have more fields: `serve.validation.fields`
lists those that an engine gets; a hosted upstream gets all.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.http.operations import Operation, Shape
from serve.transport.asgi import PROMETHEUS_TEXT
from serve.validation.field_limits import MAX_INPUTS, MAX_LENGTHS, MAX_NUMBERS

_Model = Annotated[str, Field(min_length=1, description="The id or alias of a model.")]
_N = Annotated[int, Field(ge=1, le=MAX_NUMBERS["n"])]
_Temperature = Annotated[float, Field(ge=0, le=2)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Tokens = Annotated[int, Field(ge=1)]
_Stop = str | Annotated[list[str], Field(max_length=4)]
_Bias = Annotated[dict[str, float], Field(max_length=MAX_LENGTHS["logit_bias"])]
_MODEL = "/v1/models/{model}"
# A missing model; a full queue; an upstream that rejects the key, breaks, times out or is not running.
_INFERENCE_ERRORS = (404, 429, 502, 503, 504)


class ErrorDetail(Shape):
    """An error's message and codes."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(Shape):
    """OpenAI's error body, used for every error."""

    error: ErrorDetail


class Health(Shape):
    """The process is alive."""

    status: Literal["ok"]


class Ready(Shape):
    """Whether requests can be answered."""

    status: str


class ModelFacts(Shape):
    """Parley's own fields of a model."""

    kind: str
    state: str
    base: str | None


class ModelCapabilities(Shape):
    """The capabilities of a local model."""

    chat: bool
    completions: bool
    embeddings: bool
    tools: bool
    structured_outputs: bool
    reasoning: bool
    vision: bool
    logprobs: bool


class Model(Shape):
    """A model in OpenAI's format. Fields that are unknown for a hosted model are left out."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: Annotated[int, Field(description="Prompt and answer together, in tokens.")] = 0
    context_length: Annotated[int, Field(description="The same as `max_model_len`.")] = 0
    capabilities: ModelCapabilities | None = None
    parley: ModelFacts


class ModelList(Shape):
    """All listed models."""

    object: Literal["list"]
    data: list[Model]


class ModelDeleted(Shape):
    """A deleted name; weights and votes stay."""

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
    """A chat message. Its content is a text, or parts whose media are `data:` URLs."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(_Generating):
    """A chat completion request."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: _Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_NUMBERS["top_logprobs"])] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=MAX_LENGTHS["tools"])] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Generating):
    """A completion request."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=128)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None


class EmbeddingsRequest(Shape):
    """An embeddings request."""

    model: _Model
    input: str | Annotated[list[str], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: _Tokens | None = None
    user: str | None = None


class ResponsesRequest(Shape):
    """A request of the Responses API, for models whose server supports it. It is stored unless `store` is false."""

    model: _Model
    input: str | list[dict[str, Any]]
    previous_response_id: str | None = None
    store: bool | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: _Tokens | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None


class CountTokensRequest(Shape):
    """A request to count the tokens of a prompt, in Anthropic's format."""

    model: _Model
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None


class MessagesRequest(CountTokensRequest):
    """A request for an answer, in Anthropic's format."""

    max_tokens: _Tokens
    stream: bool | None = None
    temperature: _Temperature | None = None
    top_p: _Share | None = None
    stop_sequences: Annotated[list[str], Field(max_length=4)] | None = None
    tool_choice: dict[str, Any] | None = None


class TokenizeRequest(Shape):
    """A prompt, or messages, to split into tokens."""

    model: _Model
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None


class RerankRequest(Shape):
    """Documents to order by their relevance to a query."""

    model: _Model
    query: str
    documents: Annotated[list[str], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=0)] | None = None


class ModerationRequest(Shape):
    """Texts to classify."""

    model: _Model
    input: str | list[str]


class Usage(Shape):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class _Answer(Shape):
    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]


class Generated(_Answer):
    """A complete response: OpenAI's `chat.completion` or `text_completion`."""

    usage: Usage | None = None


class Frame(_Answer):
    """A frame of a stream. `data: [DONE]` ends a complete stream, `data: {"error": …}` a broken one."""


class Embedded(Shape):
    """One embedding: numbers, or their bytes in base64."""

    index: int
    object: Literal["embedding"]
    embedding: list[float] | str


class Embeddings(Shape):
    """Embeddings in the order of the texts."""

    object: Literal["list"]
    data: list[Embedded]
    model: str
    usage: Usage


class MessageUsage(Shape):
    """Token counts in Anthropic's format."""

    input_tokens: int
    output_tokens: int


class AnthropicMessage(Shape):
    """A complete answer in Anthropic's format."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    content: list[dict[str, Any]]
    model: str
    usage: MessageUsage


class CountedTokens(Shape):
    """The number of tokens of a prompt."""

    input_tokens: int


class Tokens(Shape):
    """The tokens of a prompt."""

    count: int
    tokens: list[int]


class Results(Shape):
    """Results in the order in which the server returned them."""

    results: list[dict[str, Any]]


class Response(Shape):
    """A response as the model's server sends it."""

    id: str
    object: Literal["response"]


class ResponseEvent(Shape):
    """An event of a streamed response."""

    type: str


OPERATIONS = (
    Operation("GET", "/health", "Whether the gateway is alive.", "Gateway", Health, needs_key=False),
    Operation("GET", "/ready",
        "Whether it can answer requests.", "Gateway", Ready, errors=(503,), needs_key=False),
    Operation("GET", "/metrics", "Prometheus metrics; owners only.", "Gateway", PROMETHEUS_TEXT.decode()),
    Operation("GET", "/openapi.json", "This document.", "Gateway", "application/json"),
    Operation("GET", "/v1/models", "List models.", "Models", ModelList),
    Operation("GET", _MODEL, "Retrieve a model. Write / in its id as %2F.", "Models", Model, errors=(404,)),
    Operation("DELETE", _MODEL, "Retire a model; owners only.", "Models", ModelDeleted, errors=(404, 409)),
    Operation(
        "POST", "/v1/chat/completions",
            "Create a chat completion.", "Answers", Generated, body=ChatRequest,
        stream=Frame, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/completions", "Create a completion.", "Answers", Generated, body=CompletionRequest,
        stream=Frame, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/embeddings", "Create embeddings.", "Answers", Embeddings, body=EmbeddingsRequest,
        errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/messages", "Anthropic's Messages API, if the model's server supports it. Errors have Anthropic's "
        "format.", "Answers", AnthropicMessage, body=MessagesRequest, stream=ResponseEvent, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/messages/count_tokens", "Count the tokens of a prompt in Anthropic's format.", "Answers",
        CountedTokens, body=CountTokensRequest, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/tokenize", "Split a prompt into tokens, if the model's server supports it.", "Answers", Tokens,
        body=TokenizeRequest, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/rerank", "Order documents by relevance, if the model's server supports it.", "Answers", Results,
        body=RerankRequest, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/moderations", "Classify texts, if the model's server supports it.", "Answers", Results,
        body=ModerationRequest, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/responses", "The Responses API, if the model's server supports it.", "Answers", Response,
        body=ResponsesRequest, stream=ResponseEvent, errors=_INFERENCE_ERRORS,
    ),
)  # fmt: skip
