"""The HTTP routes of the evals API and of graders. The logic is in `evals.eval_runs` and `evals.graders`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evals.eval_runs.operations import OPERATIONS
from evals.eval_runs.requests import EvalCreate, EvalUpdate, GraderRun, GraderValidate, RunCreate
from models.database import Database
from models.errors import Invalid
from models.http.bodies import read_body
from models.http.operations import attach_operations
from models.http.payloads import is_retry, json_response, list_page, query_integer, run_in_thread
from models.http.repeated_requests import caller_of
from models.settings.settings import Settings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from evals.eval_runs.evals import Page, PageRange

_EVALS, _GRADERS = "/v1/evals", "/v1/fine_tuning/alpha/graders"
_MOST = 100  # items on one page
_RUN_STATUSES = ("queued", "in_progress", "completed", "canceled", "failed")
# The SDK's types name the filter "fail", its description "failed".
_ITEM_STATUSES = {"pass": "pass", "passed": "pass", "fail": "fail", "failed": "fail"}


def eval_routes(settings: Settings, database: Database) -> "list[Route]":
    """The routes under `/v1/evals` and `/v1/fine_tuning/alpha/graders`."""
    from starlette.routing import Route

    evals, runs = _EvalRoutes(settings, database), _RunRoutes(settings, database)
    one = f"{_EVALS}/{{eval_id}}"
    run = f"{one}/runs/{{run_id}}"
    routes = [
        Route(_EVALS, evals.create, methods=["POST"]),
        Route(_EVALS, evals.page, methods=["GET"]),
        Route(one, evals.retrieve, methods=["GET"]),
        Route(one, evals.update, methods=["POST"]),
        Route(one, evals.delete, methods=["DELETE"]),
        Route(f"{one}/runs", runs.create, methods=["POST"]),
        Route(f"{one}/runs", runs.page, methods=["GET"]),
        Route(run, runs.retrieve, methods=["GET"]),
        Route(run, runs.cancel, methods=["POST"]),  # SDKs up to 3.20
        Route(f"{run}/cancel", runs.cancel, methods=["POST"]),
        Route(run, runs.delete, methods=["DELETE"]),
        Route(f"{run}/output_items", runs.items, methods=["GET"]),
        Route(f"{run}/output_items/{{output_item_id}}", runs.item, methods=["GET"]),
        Route(f"{_GRADERS}/validate", evals.validate_grader, methods=["POST"]),
        Route(f"{_GRADERS}/run", evals.run_grader, methods=["POST"]),
    ]
    return attach_operations(routes, OPERATIONS)


class _EvalRoutes:
    """`/v1/evals` and the graders."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def create(self, request: "Request") -> "Response":
        from evals.eval_runs.evals import create_eval

        body = await read_body(request, EvalCreate)
        unsandboxed = self._settings.unsandboxed_graders
        created = await run_in_thread(create_eval, self._database, body, caller_of(request), unsandboxed=unsandboxed)
        return json_response(created, 201)

    async def page(self, request: "Request") -> "Response":
        from evals.eval_runs.evals import list_evals

        order_by = _choice(request.query_params, "order_by", ("created_at", "updated_at")) or "created_at"
        page_range = _page_range(request.query_params)
        return _list_response(await run_in_thread(list_evals, self._database, page_range, order_by))

    async def retrieve(self, request: "Request") -> "Response":
        from evals.eval_runs.evals import get_eval

        return json_response(await run_in_thread(get_eval, self._database, request.path_params["eval_id"]))

    async def update(self, request: "Request") -> "Response":
        from evals.eval_runs.evals import update_eval

        body = await read_body(request, EvalUpdate)
        return json_response(await run_in_thread(update_eval, self._database, request.path_params["eval_id"], body))

    async def delete(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import delete_eval

        eval_id = request.path_params["eval_id"]
        await run_in_thread(delete_eval, self._settings, self._database, eval_id)
        return json_response({"object": "eval.deleted", "deleted": True, "eval_id": eval_id})

    async def validate_grader(self, request: "Request") -> "Response":
        from evals.graders.grading import check_grader
        from evals.graders.shapes import grader_json

        body = await read_body(request, GraderValidate)
        grader = grader_json(body.grader)
        await run_in_thread(check_grader, grader, self._settings.unsandboxed_graders)
        return json_response({"grader": grader})

    async def run_grader(self, request: "Request") -> "Response":
        body = await read_body(request, GraderRun)
        return json_response(await run_in_thread(self._run_grader, body))

    def _run_grader(self, body: GraderRun) -> dict[str, Any]:
        from evals.eval_runs.run_models import RunModels
        from evals.graders.grader_runs import run_grader
        from evals.graders.grading import check_grader, models_of
        from evals.graders.shapes import grader_json
        from evals.served_models import Completers, find_models, run_with_completers
        from models.database import new_ulid

        grader = grader_json(body.grader)
        check_grader(grader, self._settings.unsandboxed_graders)
        find_models(self._settings, self._database, *models_of(grader))

        async def run(completers: Completers) -> dict[str, Any]:
            models = RunModels(self._settings, self._database, completers, salt=new_ulid())
            return await run_grader(grader, body.model_sample, body.item, models.grading_context())

        return run_with_completers(self._settings, self._database, run)


class _RunRoutes:
    """`/v1/evals/{eval_id}/runs`."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database

    async def create(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import create_run

        body = await read_body(request, RunCreate)
        eval_id = request.path_params["eval_id"]
        created = await run_in_thread(create_run, self._settings, self._database, eval_id, body, caller_of(request))
        return json_response(created, 201)

    async def page(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import list_runs

        query, eval_id = request.query_params, request.path_params["eval_id"]
        status = _choice(query, "status", _RUN_STATUSES)
        page_range = _page_range(query)
        return _list_response(
            await run_in_thread(list_runs, self._settings, self._database, eval_id, page_range, status)
        )

    async def retrieve(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import get_run

        return json_response(await run_in_thread(get_run, self._settings, self._database, *_run_ids(request)))

    async def cancel(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import cancel_run

        repeated = is_retry(request)
        return json_response(
            await run_in_thread(cancel_run, self._settings, self._database, *_run_ids(request), repeated=repeated)
        )

    async def delete(self, request: "Request") -> "Response":
        from evals.eval_runs.runs import delete_run

        eval_id, run_id = _run_ids(request)
        await run_in_thread(delete_run, self._settings, self._database, eval_id, run_id)
        return json_response({"object": "eval.run.deleted", "deleted": True, "run_id": run_id})

    async def items(self, request: "Request") -> "Response":
        from evals.eval_runs.items import list_items

        query = request.query_params
        status = _choice(query, "status", tuple(_ITEM_STATUSES))
        chosen = _ITEM_STATUSES[status] if status else None
        page_range = _page_range(query)
        return _list_response(await run_in_thread(list_items, self._database, *_run_ids(request), page_range, chosen))

    async def item(self, request: "Request") -> "Response":
        from evals.eval_runs.items import get_item

        wanted = request.path_params["output_item_id"]
        return json_response(await run_in_thread(get_item, self._database, *_run_ids(request), wanted))


def _run_ids(request: "Request") -> tuple[str, str]:
    return request.path_params["eval_id"], request.path_params["run_id"]


def _page_range(query: Mapping[str, str]) -> "PageRange":
    from evals.eval_runs.evals import PageRange

    limit = query_integer(query, "limit", 20, least=1, most=_MOST)
    return PageRange(query.get("after") or None, limit, _choice(query, "order", ("asc", "desc")) == "desc")


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    """A query parameter that is one of the choices; None if it is not sent.

    Raises:
        Invalid: it is another value.
    """
    value = query.get(name) or None
    if value is not None and value not in choices:
        raise Invalid(f"{name} must be one of {', '.join(choices)}, not {value[:40]!r}.", param=name)
    return value


def _list_response(page: "Page") -> "Response":
    return json_response(list_page(page.data, has_more=page.has_more))
