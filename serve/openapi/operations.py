"""The gateway's own routes, described: for the OpenAPI document, and for nothing else."""

from models.http.operations import Operation
from serve.openapi import shapes
from serve.transport.replies import TEXT

_MODEL = "/v1/models/{model}"
# A model that is not there; a queue that is full; an upstream that refuses, breaks, is too slow or does not run.
_RELAYED = (404, 429, 502, 503, 504)

OPERATIONS = (
    Operation("GET", "/health", "Whether the gateway lives.", "Gateway", shapes.Health, needs_key=False),
    Operation("GET", "/ready", "Whether it can answer.", "Gateway", shapes.Ready, errors=(503,), needs_key=False),
    Operation("GET", "/metrics", "Figures for Prometheus; for owners.", "Gateway", TEXT.decode()),
    Operation("GET", "/openapi.json", "This document.", "Gateway", "application/json"),
    Operation("GET", "/v1/models", "List models.", "Models", shapes.ModelList),
    Operation("GET", _MODEL, "Retrieve a model. A / in its id is %2F.", "Models", shapes.Model, errors=(404,)),
    Operation("DELETE", _MODEL, "Retire a model; for owners.", "Models", shapes.ModelDeleted, errors=(404, 409)),
    Operation(
        "POST", "/v1/chat/completions", "Go on with a chat.", "Answers", shapes.Generated, body=shapes.ChatRequest,
        stream=shapes.Frame, errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/completions", "Go on with a text.", "Answers", shapes.Generated, body=shapes.CompletionRequest,
        stream=shapes.Frame, errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/embeddings", "Embed texts.", "Answers", shapes.Embeddings, body=shapes.EmbeddingsRequest,
        errors=_RELAYED,
    ),
    Operation(
        "POST", "/v1/responses", "The Responses API, where a model's server has it.", "Answers", shapes.Response,
        body=shapes.ResponsesRequest, stream=shapes.ResponseEvent, errors=_RELAYED,
    ),
)  # fmt: skip
