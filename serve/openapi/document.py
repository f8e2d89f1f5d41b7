"""Builds the OpenAPI document (3.1) of every route: the gateway's own and those that other rooms mount.

It is built from `models.http.operations.Operation` descriptions with pydantic schemas; it knows no route.
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
from serve.openapi.operations import OPERATIONS, Error

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_SCHEMAS = "#/components/schemas/"
# Errors of any route: an invalid, slow or large request, an internal error, a server that is stopping.
_COMMON_ERRORS = (400, 408, 413, 415, 429, 431, 500, 503)
_AUTH_ERRORS = (401, 403)
_PARAMETER = re.compile(r"\{(\w+)\}")
_Use = tuple[type[BaseModel], Literal["validation", "serialization"]]
_HEADERS: dict[str, Any] = {
    "x-request-id": {"description": "The id of this request.", "schema": {"type": "string"}},
    "openai-processing-ms": {"description": "Milliseconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}},
}


def operations(mounts: "Sequence[BaseRoute]" = ()) -> list[Operation]:
    """The descriptions of the gateway's own routes and of mounted ones."""
    return [*OPERATIONS, *(operation for route in mounts for operation in getattr(route, ATTRIBUTE, ()))]


def openapi_document(mounts: "Sequence[BaseRoute]" = ()) -> dict[str, Any]:
    """The document as plain data for JSON."""
    described = operations(mounts)
    references, schemas = models_json_schema(_schema_uses(described), ref_template=_SCHEMAS + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in described:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parley",
            "version": _version(),
            "description": "OpenAI's API for your own models. All errors have OpenAI's format.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "headers": _HEADERS,
            "responses": {
                str(status): _error_response(status, references)
                for status in sorted(
                    {
                        *_COMMON_ERRORS,
                        *_AUTH_ERRORS,
                        *(status for operation in described for status in operation.errors),
                    }
                )
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Created with `parley keys create`. Without any key, none is required on loopback.",
                }
            },
        },
    }


def _schema_uses(described: Iterable[Operation]) -> list[_Use]:
    """The schemas that are read, and those that are written."""
    read_schemas: set[type[BaseModel]] = set()
    written_schemas: set[type[BaseModel]] = {Error}
    for operation in described:
        read_schemas.update(model for model in (operation.body, operation.form) if model)
        written_schemas.update(
            model for model in (operation.answer, operation.stream) if model and not isinstance(model, str)
        )
    by_name = operator.attrgetter("__name__")
    reads: list[_Use] = [(model, "validation") for model in sorted(read_schemas, key=by_name)]
    gives: list[_Use] = [(model, "serialization") for model in sorted(written_schemas, key=by_name)]
    return reads + gives


def _operation(operation: Operation, references: Any) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): _success_response(operation, references)}
    statuses = {*_COMMON_ERRORS, *(_AUTH_ERRORS if operation.needs_key else ()), *operation.errors}
    for status in sorted(statuses):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    description: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": responses,
    }
    if not operation.needs_key:
        description["security"] = []
    if parameters := [*_path_parameters(operation), *_query_parameters(operation)]:
        description["parameters"] = parameters
    content = {
        kind: {"schema": references[model, "validation"]}
        for kind, model in (("application/json", operation.body), ("multipart/form-data", operation.form))
        if model
    }
    if content:
        description["requestBody"] = {"required": True, "content": content}
    return description


def _error_response(status: int, references: Any) -> dict[str, Any]:
    return {
        "description": HTTPStatus(status).phrase,
        "headers": _response_headers(),
        "content": {"application/json": {"schema": references[Error, "serialization"]}},
    }


def _response_headers() -> dict[str, Any]:
    """The headers of every response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS}


def _success_response(operation: Operation, references: Any) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if isinstance(operation.answer, str):
        kind = operation.answer.partition(";")[0]
        content[kind] = {"schema": {"type": "object"} if kind.endswith("json") else {"type": "string"}}
    else:
        content["application/json"] = {"schema": references[operation.answer, "serialization"]}
    if operation.stream:
        # Server-sent events, each an object whose data is JSON, except the [DONE] that ends a complete stream.
        data = {"type": "string", "description": f"{operation.stream.__name__} as JSON, or [DONE]"}
        event = {"type": "object", "properties": {"data": data}, "required": ["data"]}
        content["text/event-stream"] = {"schema": event}
    return {"description": "Done.", "headers": _response_headers(), "content": content}


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 255}}
        for name in _PARAMETER.findall(operation.path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    properties = operation.query.model_json_schema(mode="validation", ref_template=_SCHEMAS + "{model}")["properties"]
    return [
        {"name": name, "in": "query", "required": False, "schema": _not_null(schema)}
        for name, schema in properties.items()
    ]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Removes null from a query parameter's schema: a query has no null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name not in ("anyOf", "default")}, **kinds[0]}


def _operation_id(operation: Operation) -> str:
    """The operationId, such as `get_v1_files_file_id_content`."""
    return "_".join([operation.method.lower(), *re.findall(r"\w+", operation.path)])


def _version() -> str:
    try:
        return version("parley")
    except PackageNotFoundError:
        return "0"
