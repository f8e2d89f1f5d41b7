"""How a route is described for the OpenAPI document: parameters, bodies, responses and errors.

Each room describes its own routes (`models.api_operations`, `train.api_operations`, `serve.openapi.operations`) and
attaches the descriptions to its Starlette routes; `serve.openapi.document` combines them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from starlette.routing import Route

ATTRIBUTE = "operations"


class Shape(BaseModel):
    """An object in a request or response. Additional fields are allowed, as OpenAI keeps adding some."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class ListPage(Shape):
    """One page of a list; a subclass adds `data`."""

    object: Literal["list"]
    has_more: bool
    first_id: str | None
    last_id: str | None


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Args:
        path: in Starlette's notation, `/v1/files/{file_id}`.
        answer: the model of a JSON response, or the media type of another response.
        body: the model of a JSON body. form: the model of a multipart form. With both, either may be sent.
        query: a model whose fields are the query parameters.
        stream: the model of each frame, if the operation supports server-sent events.
        errors: error statuses in addition to those of every route.
        needs_key: False if the operation never requires a key.
        status: the status of a successful response.
    """

    method: str
    path: str
    summary: str
    tag: str
    answer: type[BaseModel] | str
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    stream: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    needs_key: bool = True
    status: int = 200


def attach_operations(routes: "Iterable[Route]", operations: Iterable[Operation]) -> "list[Route]":
    """Sets each route's descriptions as its attribute `operations`; returns the routes."""
    by_endpoint = {(operation.method, operation.path): operation for operation in operations}
    result = list(routes)
    for route in result:
        path = route.path.replace(":path}", "}")
        endpoints = [(method, path) for method in sorted(route.methods or ())]
        setattr(route, ATTRIBUTE, tuple(by_endpoint[key] for key in endpoints if key in by_endpoint))
    return result
