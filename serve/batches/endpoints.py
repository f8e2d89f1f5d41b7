"""The HTTP routes of `/v1/batches`. Clients' keys may use them too, for their own batches. Light to import."""

from typing import TYPE_CHECKING

from models.database import Database
from models.http.bodies import read_body
from models.http.file_access import file_access
from models.http.operations import attach_operations
from models.http.payloads import json_response, list_page, query_integer, run_in_thread
from models.http.repeated_requests import caller_of
from models.settings.settings import Settings
from serve.batches.batches import Batches
from serve.batches.operations import MAX_LISTED, OPERATIONS, BatchCreate

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


def batch_routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes."""
    from starlette.routing import Route

    batches = _BatchRoutes(settings, database)
    path = "/v1/batches"
    routes = [
        Route(path, batches.create, methods=["POST"]),
        Route(path, batches.page, methods=["GET"]),
        Route(f"{path}/{{batch_id}}", batches.retrieve, methods=["GET"]),
        Route(f"{path}/{{batch_id}}/cancel", batches.cancel, methods=["POST"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _BatchRoutes:
    """`/v1/batches`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database

    def _batches(self, request: "Request") -> Batches:
        return Batches(self._settings, self._database, file_access(request))

    async def create(self, request: "Request") -> "Response":
        body = await read_body(request, BatchCreate)
        return json_response(await run_in_thread(self._batches(request).create, body, caller_of(request)))

    async def page(self, request: "Request") -> "Response":
        query = request.query_params
        limit = query_integer(query, "limit", 20, least=1, most=MAX_LISTED)
        page = await run_in_thread(self._batches(request).page, query.get("after") or None, limit)
        return json_response(list_page(page.data, has_more=page.has_more))

    async def retrieve(self, request: "Request") -> "Response":
        return json_response(await run_in_thread(self._batches(request).get, request.path_params["batch_id"]))

    async def cancel(self, request: "Request") -> "Response":
        return json_response(await run_in_thread(self._batches(request).cancel, request.path_params["batch_id"]))
