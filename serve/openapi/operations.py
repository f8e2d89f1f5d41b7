"""The gateway's own routes, described for the OpenAPI document only."""

from models.http.operations import Operation
from serve.openapi import schemas
from serve.transport.asgi import PROMETHEUS_TEXT

_MODEL = "/v1/models/{model}"
# A missing model; a full queue; an upstream that rejects the key, breaks, times out or is not running.
_INFERENCE_ERRORS = (404, 429, 502, 503, 504)

OPERATIONS = (
    Operation("GET", "/health", "Whether the gateway is alive.", "Gateway", schemas.Health, needs_key=False),
    Operation("GET", "/ready",
        "Whether it can answer requests.", "Gateway", schemas.Ready, errors=(503,), needs_key=False),
    Operation("GET", "/metrics", "Prometheus metrics; owners only.", "Gateway", PROMETHEUS_TEXT.decode()),
    Operation("GET", "/openapi.json", "This document.", "Gateway", "application/json"),
    Operation("GET", "/v1/models", "List models.", "Models", schemas.ModelList),
    Operation("GET", _MODEL, "Retrieve a model. Write / in its id as %2F.", "Models", schemas.Model, errors=(404,)),
    Operation("DELETE", _MODEL, "Retire a model; owners only.", "Models", schemas.ModelDeleted, errors=(404, 409)),
    Operation(
        "POST", "/v1/chat/completions",
            "Create a chat completion.", "Answers", schemas.Generated, body=schemas.ChatRequest,
        stream=schemas.Frame, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/completions", "Create a completion.", "Answers", schemas.Generated, body=schemas.CompletionRequest,
        stream=schemas.Frame, errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/embeddings", "Create embeddings.", "Answers", schemas.Embeddings, body=schemas.EmbeddingsRequest,
        errors=_INFERENCE_ERRORS,
    ),
    Operation(
        "POST", "/v1/responses", "The Responses API, if the model's server supports it.", "Answers", schemas.Response,
        body=schemas.ResponsesRequest, stream=schemas.ResponseEvent, errors=_INFERENCE_ERRORS,
    ),
)  # fmt: skip
