"""The gateway's own routes, described: for the OpenAPI document, and for nothing else."""

from models.http.operations import Operation
from serve.openapi import schemas
from serve.transport.asgi import PROMETHEUS_TEXT

_MODEL = "/v1/models/{model}"
# A model that is not there; a queue that is full; an upstream that refuses, breaks, is too slow or does not run.
_RELAYED = (404, 429, 502, 503, 504)

OPERATIONS = (
    Operation("GET", "/health", "Whether the gateway lives.", "Gateway", schemas.Health, needs_key=False),
    Operation("GET", "/ready", "Whether it can answer.", "Gateway", schemas.Ready, errors=(503,), needs_key=False),
    Operation("GET", "/metrics", "Figures for Prometheus; for owners.", "Gateway", PROMETHEUS_TEXT.decode()),
    Operation("GET", "/openapi.json", "This document.", "Gateway", "application/json"),
    Operation("GET", "/v1/models", "List models.", "Models", schemas.ModelList),
    Operation("GET", _MODEL, "Retrieve a model. A / in its id is %2F.", "Models", schemas.Model, errors=(404,)),
    Operation("DELETE", _MODEL, "Retire a model; for owners.", "Models", schemas.ModelDeleted, errors=(404, 409)),
    Operation(
        "POST", "/v1/chat/completions", "Go on with a chat.", "Answers", schemas.Generated, body=schemas.ChatRequest,
        stream=schemas.Frame, errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/completions", "Go on with a text.", "Answers", schemas.Generated, body=schemas.CompletionRequest,
        stream=schemas.Frame, errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/embeddings", "Embed texts.", "Answers", schemas.Embeddings, body=schemas.EmbeddingsRequest,
        errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/responses", "The Responses API, where a model's server has it.", "Answers", schemas.Response,
        body=schemas.ResponsesRequest, stream=schemas.ResponseEvent, errors=_RELAYED,
    ),
)  # fmt: skip
