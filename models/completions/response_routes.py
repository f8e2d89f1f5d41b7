"""The routes of stored responses, in OpenAI's format. Light to import.

A client's key can read and delete only the responses that it stored.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from models.completions.recorded import read_recorded
from models.completions.response_items import listed_items
from models.completions.response_operations import INCLUDABLE, OPERATIONS
from models.completions.stored_completions import MAX_LISTED, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid, NotFound
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, query_integer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_Result = TypeVar("_Result")
_PATH = "/v1/responses/{response_id}"


def response_routes(database: Database) -> "list[Route]":
    """The routes of stored responses."""
    from starlette.routing import Route

    responses = _ResponseRoutes(StoredCompletions(database))
    routes = [
        Route(_PATH, responses.retrieve, methods=["GET"]),
        Route(_PATH, responses.delete, methods=["DELETE"]),
        Route(f"{_PATH}/cancel", responses.cancel, methods=["POST"]),
        Route(f"{_PATH}/input_items", responses.input_items, methods=["GET"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _ResponseRoutes:
    """`/v1/responses/{response_id}`."""

    def __init__(self, responses: StoredCompletions) -> None:
        self._responses = responses

    async def retrieve(self, request: "Request") -> "Response":
        _check_include(request.query_params)
        for name in ("stream", "starting_after"):
            if request.query_params.get(name) not in (None, "", "false"):
                raise Invalid(
                    "Only a background response can be streamed again, and this server has none: retrieve the response "
                    f"without {name}.",
                    param=name,
                )
        return json_response(response_to_json(await self._get(request)))

    async def delete(self, request: "Request") -> "Response":
        response_id = request.path_params["response_id"]
        await _read(request, self._responses.delete, response_id, request.state.key, "response")
        return json_response({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: "Request") -> "Response":
        await self._get(request)
        raise Invalid("Cannot cancel a synchronous response.", param="response_id")

    async def input_items(self, request: "Request") -> "Response":
        query = request.query_params
        _check_include(query)
        order = query.get("order") or "desc"
        if order not in ("asc", "desc"):
            raise Invalid(f"order must be asc or desc, not {order[:20]!r}.", param="order")
        limit = query_integer(query, "limit", 20, least=1, most=MAX_LISTED)
        items = await _read(request, self._items, request.path_params["response_id"], request.state.key)
        if order == "desc":
            items.reverse()
        if after := query.get("after"):
            items = _following(items, after)
        return json_response(list_page(items[:limit], has_more=len(items) > limit))

    def _items(self, response_id: str, key: Any) -> list[dict[str, Any]]:
        return listed_items(list(self._responses.turns(response_id, key))[::-1])

    async def _get(self, request: "Request") -> StoredCompletion:
        return await _read(
            request, self._responses.get, request.path_params["response_id"], request.state.key, "response"
        )


async def _read(request: "Request", read: Callable[..., _Result], *arguments: Any) -> _Result:
    return await read_recorded(getattr(request.state, "catch_up", None), read, *arguments)


def response_to_json(response: StoredCompletion) -> dict[str, Any]:
    """A stored response in OpenAI's format."""
    return {
        **response.answer,
        "id": response.id,
        "object": "response",
        "previous_response_id": response.previous_id,
        "store": True,
        "metadata": dict(response.metadata),
    }


def _check_include(query: Mapping[str, str]) -> None:
    """Raises Invalid for a value that OpenAI does not have. Its own change nothing: all that is stored is returned."""
    for name, value in getattr(query, "multi_items", query.items)():
        if name.partition("[")[0] == "include" and value not in INCLUDABLE:
            raise Invalid(f"include {value[:80]!r} is not valid: use one of {', '.join(INCLUDABLE)}.", param="include")


def _following(items: list[dict[str, Any]], after: str) -> list[dict[str, Any]]:
    for number, item in enumerate(items):
        if item["id"] == after:
            return items[number + 1 :]
    raise NotFound(f"There is no item {after[:80]!r} in this response's input.", param="after")
