"""The OpenAPI document (3.1) of every route: the gateway's own, and those that other rooms have mounted.

It is made of descriptions (`models.http.operations.Operation`) whose shapes are pydantic models; it knows no route.
Source: https://spec.openapis.org/oas/v3.1.1.
"""

import operator
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from models.http.operations import ATTRIBUTE, Operation
from serve.openapi.operations import OPERATIONS
from serve.openapi.schemas import Error

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_SCHEMAS = "#/components/schemas/"
# What any route may answer with: an odd request, one that is too slow or too large, a fault, a server that stops.
_ALWAYS = (400, 408, 413, 415, 429, 431, 500, 503)
_KEYED = (401, 403)
_PARAMETER = re.compile(r"\{(\w+)\}")
_Use = tuple[type[BaseModel], Literal["validation", "serialization"]]
_HEADERS: dict[str, Any] = {
    "x-request-id": {"description": "The server's number for this request.", "schema": {"type": "string"}},
    "openai-processing-ms": {"description": "Milliseconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}


def operations(mounts: "Sequence[BaseRoute]" = ()) -> list[Operation]:
    """Every description: of the gateway's own routes, and of those that are mounted."""
    return [*OPERATIONS, *(one for route in mounts for one in getattr(route, ATTRIBUTE, ()))]


def openapi_document(mounts: "Sequence[BaseRoute]" = ()) -> dict[str, Any]:
    """The document, ready to be written as JSON."""
    described = operations(mounts)
    references, schemas = models_json_schema(_uses(described), ref_template=_SCHEMAS + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for one in described:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": _version(),
            "description": "OpenAI's API over your own models. Errors have OpenAI's body everywhere.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "headers": _HEADERS,
            "responses": {
                str(status): _error(status, references)
                for status in sorted({*_ALWAYS, *_KEYED, *(status for one in described for status in one.errors)})
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`parley keys create`. Without any key made, none is asked for, on loopback.",
                }
            },
        },
    }


def _uses(described: Iterable[Operation]) -> list[_Use]:
    """Which models are read, and which are written."""
    taken: set[type[BaseModel]] = set()
    given: set[type[BaseModel]] = {Error}
    for one in described:
        taken.update(model for model in (one.body, one.form) if model)
        given.update(model for model in (one.answer, one.stream) if model and not isinstance(model, str))
    by_name = operator.attrgetter("__name__")
    reads: list[_Use] = [(model, "validation") for model in sorted(taken, key=by_name)]
    gives: list[_Use] = [(model, "serialization") for model in sorted(given, key=by_name)]
    return reads + gives


def _operation(one: Operation, references: Any) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": _answer(one, references)}
    known = {*_ALWAYS, *(_KEYED if one.needs_key else ()), *one.errors}
    for status in sorted(known):
        answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
    found: dict[str, Any] = {
        "operationId": _identity(one),
        "summary": one.summary,
        "tags": [one.tag],
        "responses": answers,
    }
    if not one.needs_key:
        found["security"] = []
    if parameters := [*_path_parameters(one), *_query_parameters(one)]:
        found["parameters"] = parameters
    content = {
        kind: {"schema": references[model, "validation"]}
        for kind, model in (("application/json", one.body), ("multipart/form-data", one.form))
        if model
    }
    if content:
        found["requestBody"] = {"required": True, "content": content}
    return found


def _error(status: int, references: Any) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _sent(),
        "content": {"application/json": {"schema": references[Error, "serialization"]}},
    }


def _sent() -> dict[str, Any]:
    """The headers of every answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


def _answer(one: Operation, references: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if isinstance(one.answer, str):
        kind = one.answer.partition(";")[0]
        content[kind] = {"schema": {"type": "object"} if kind.endswith("json") else {"type": "string"}}
    else:
        content["application/json"] = {"schema": references[one.answer, "serialization"]}
    if one.stream:
        # Server-sent events, each as an object: its data is JSON, but for the [DONE] that ends a stream which is whole.
        data = {"type": "string", "description": f"{one.stream.__name__} as JSON, or [DONE]"}
        event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
        content["text/event-stream"] = {"schema": event}
    return {"description": "Done.", "headers": _sent(), "content": content}


def _path_parameters(one: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 255}}
        for name in _PARAMETER.findall(one.path)
    ]


def _query_parameters(one: Operation) -> list[dict[str, Any]]:
    if one.query is None:
        return []
    properties = one.query.model_json_schema(mode="validation", ref_template=_SCHEMAS + "{model}")["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _not_null(schema)}
        for name, schema in properties.items()
    ]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what is not set is left out."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name not in ("anyOf", "default")}, **kinds[0]}


def _identity(one: Operation) -> str:
    """A name for programs: `get_v1_files_file_id_content`."""
    return "_".join([one.method.lower(), *re.findall(r"\w+", one.path)])


def _version() -> str:
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"
