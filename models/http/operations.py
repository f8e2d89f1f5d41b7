"""How a route is described: what it takes, what it answers, and which errors. It knows no route.

Each room describes its own routes (`models.api_operations`, `train.api_operations`, `serve.openapi.operations`); a
room's `routes()` hangs the descriptions on its Starlette routes, and `serve.openapi.document` makes one document of all
of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from starlette.routing import Route

ATTRIBUTE = "operations"


class Shape(BaseModel):
    """An object in a request or an answer. OpenAI adds fields as it goes, and so may we: others may stand beside."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Args:
        path: as Starlette writes it, `/v1/files/{file_id}`.
        answer: the model of a JSON answer, or the media type of another one.
        body: the model of a JSON body. form: the model of a multipart form. With both, either may be sent.
        query: a model whose fields are the parameters in the query.
        stream: the model of each frame, where a client may ask for server-sent events.
        errors: statuses beside those that any route may answer with.
        needs_key: False where none is ever asked for.
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


def attach_operations(routes: "Iterable[Route]", operations: Iterable[Operation]) -> "list[Route]":
    """The same routes, each with its own descriptions as the attribute `operations`."""
    by_place = {(one.method, one.path): one for one in operations}
    found = list(routes)
    for route in found:
        own = [by_place[place] for method in sorted(route.methods or ()) if (place := (method, route.path)) in by_place]
        setattr(route, ATTRIBUTE, tuple(own))
    return found
