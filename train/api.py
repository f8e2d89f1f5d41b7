"""This room's routes on the gateway: the fine-tuning API and the data check. Light to import."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from models.database import Database
from models.errors import Invalid
from models.http.operations import attach_operations
from models.http.payloads import is_retry, json_response, list_page, query_integer, read_json_object, run_in_thread
from models.settings.settings import Settings
from train.data.endpoint import DataCheck
from train.finetuning import creation, lifecycle, views
from train.finetuning.requests import parse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_JOBS = "/v1/fine_tuning/jobs"
_FILTER = re.compile(r"metadata\[(.+)\]")
_MOST = 1000  # items on one page


def routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes of `train`."""
    from starlette.routing import Route

    from train.api_operations import OPERATIONS

    api = _FineTuning(settings, database)
    job_path = f"{_JOBS}/{{job_id}}"
    routes = [
        Route("/v1/parley/data/check", DataCheck().answer, methods=["POST"]),
        Route(_JOBS, api.create, methods=["POST"]),
        Route(_JOBS, api.jobs, methods=["GET"]),
        Route(job_path, api.retrieve, methods=["GET"]),
        Route(f"{job_path}/cancel", api.changing(lifecycle.cancel), methods=["POST"]),
        Route(f"{job_path}/pause", api.changing(lifecycle.pause), methods=["POST"]),
        Route(f"{job_path}/resume", api.changing(lifecycle.resume), methods=["POST"]),
        Route(f"{job_path}/events", api.events, methods=["GET"]),
        Route(f"{job_path}/checkpoints", api.checkpoints, methods=["GET"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _FineTuning:
    """The handlers: only HTTP; `train.finetuning` does the work."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def create(self, request: "Request") -> "Response":
        job_request = parse(await read_json_object(request))
        key = getattr(request.state, "key", None)
        job_id = await run_in_thread(
            creation.create,
            self._settings,
            self._database,
            job_request,
            repeated=is_retry(request),
            key=key.id if key else "",
        )
        return json_response(await run_in_thread(views.job, self._database, job_id))

    async def jobs(self, request: "Request") -> "Response":
        query = request.query_params
        pairs = {match[1]: value for name, value in query.multi_items() if (match := _FILTER.fullmatch(name))}
        if query.get("metadata", "null") != "null":
            raise Invalid("Filter by metadata[key]=value, or metadata=null for jobs without any.", param="metadata")
        page = await run_in_thread(
            views.jobs, self._database, **_page_range(query), metadata=pairs, bare=query.get("metadata") == "null"
        )
        return json_response(list_page(page.data, has_more=page.has_more))

    async def retrieve(self, request: "Request") -> "Response":
        return json_response(await run_in_thread(views.job, self._database, request.path_params["job_id"]))

    async def events(self, request: "Request") -> "Response":
        return await self._of_a_job(request, views.events)

    async def checkpoints(self, request: "Request") -> "Response":
        return await self._of_a_job(request, views.checkpoints, 10)

    async def _of_a_job(self, request: "Request", read: Callable[..., views.Page], limit: int = 20) -> "Response":
        place = _page_range(request.query_params, limit)
        page = await run_in_thread(read, self._database, request.path_params["job_id"], **place)
        return json_response(list_page(page.data, has_more=page.has_more))

    def changing(self, change: Callable[..., None]) -> Callable[["Request"], Any]:
        """A handler that changes a job and responds with its new state."""

        async def answer(request: "Request") -> "Response":
            job_id = request.path_params["job_id"]
            await run_in_thread(change, self._database, job_id, repeated=is_retry(request))
            return json_response(await run_in_thread(views.job, self._database, job_id))

        return answer


def _page_range(query: Mapping[str, str], limit: int = 20) -> dict[str, Any]:
    """Where a page begins, and its length."""
    return {"after": query.get("after") or None, "limit": query_integer(query, "limit", limit, least=1, most=_MOST)}
