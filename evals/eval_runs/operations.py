"""The responses of the evals API and its operations, for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from evals.eval_runs.requests import EvalCreate, EvalUpdate, GraderRun, GraderValidate, Order, RunCreate, RunStatus
from models.http.operations import ListPage, Operation, Shape


class PageQuery(Shape):
    """Where a page begins, its length and its order."""

    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Order = "asc"


class EvalsQuery(PageQuery):
    """Which evals to list."""

    order_by: Literal["created_at", "updated_at"] = "created_at"


class RunsQuery(PageQuery):
    """Which runs to list."""

    status: RunStatus | None = None


class ItemsQuery(PageQuery):
    """Which output items to list."""

    status: Literal["pass", "fail", "passed", "failed"] | None = None


class ApiError(Shape):
    """Why a run or an answer failed."""

    code: str
    message: str


class Eval(Shape):
    """An eval."""

    id: str
    object: Literal["eval"]
    created_at: int
    name: str
    data_source_config: dict[str, Any]
    testing_criteria: list[dict[str, Any]]
    metadata: dict[str, str]


class EvalPage(ListPage):
    """One page of evals."""

    data: list[Eval]


class EvalDeleted(Shape):
    """A deleted eval."""

    object: Literal["eval.deleted"]
    deleted: bool
    eval_id: str


class ResultCounts(Shape):
    """The items by their outcome."""

    total: int
    errored: int
    failed: int
    passed: int


class EvalRun(Shape):
    """A run."""

    id: str
    object: Literal["eval.run"]
    eval_id: str
    created_at: int
    name: str
    model: str
    status: RunStatus
    report_url: str
    data_source: dict[str, Any]
    error: ApiError | None
    metadata: dict[str, str]
    result_counts: ResultCounts
    per_model_usage: list[dict[str, Any]]
    per_testing_criteria_results: list[dict[str, Any]]


class EvalRunPage(ListPage):
    """One page of runs."""

    data: list[EvalRun]


class EvalRunDeleted(Shape):
    """A deleted run."""

    object: Literal["eval.run.deleted"]
    deleted: bool
    run_id: str


class OutputItem(Shape):
    """One row of a run with its answer and results."""

    id: str
    object: Literal["eval.run.output_item"]
    created_at: int
    run_id: str
    eval_id: str
    status: Literal["pass", "fail", "error"]
    datasource_item_id: int
    datasource_item: dict[str, Any]
    results: list[dict[str, Any]]
    sample: dict[str, Any]


class OutputItemPage(ListPage):
    """One page of output items."""

    data: list[OutputItem]


class ValidGrader(Shape):
    """A grader that is valid."""

    grader: dict[str, Any]


class GraderReward(Shape):
    """A grader's score of an answer."""

    model_config = ConfigDict(protected_namespaces=())

    reward: float
    sub_rewards: dict[str, float]
    metadata: dict[str, Any]
    model_grader_token_usage_per_model: dict[str, Any]


_EVALS, _TAG = "/v1/evals", "Evals"
_EVAL = f"{_EVALS}/{{eval_id}}"
_RUN = f"{_EVAL}/runs/{{run_id}}"
_GRADERS = "/v1/fine_tuning/alpha/graders"
_GRADER_ERRORS = (404, 429, 502, 504)


def _operation(method: str, path: str, summary: str, answer: type[BaseModel], **options: Any) -> Operation:
    return Operation(method, path, summary, _TAG, answer, errors=options.pop("errors", (404,)), **options)


OPERATIONS = (
    _operation("POST", _EVALS, "Create an eval.", Eval, body=EvalCreate, status=201),
    _operation("GET", _EVALS, "List evals.", EvalPage, query=EvalsQuery),
    _operation("GET", _EVAL, "Retrieve an eval.", Eval),
    _operation("POST", _EVAL, "Change an eval's name or metadata.", Eval, body=EvalUpdate),
    _operation("DELETE", _EVAL, "Delete an eval with its runs.", EvalDeleted),
    _operation("POST", f"{_EVAL}/runs", "Start a run.", EvalRun, body=RunCreate, status=201, errors=(404, 507)),
    _operation("GET", f"{_EVAL}/runs", "List runs.", EvalRunPage, query=RunsQuery),
    _operation("GET", _RUN, "Retrieve a run.", EvalRun),
    _operation("POST", _RUN, "Cancel a run.", EvalRun),
    _operation("POST", f"{_RUN}/cancel", "Cancel a run.", EvalRun),
    _operation("DELETE", _RUN, "Delete a run.", EvalRunDeleted),
    _operation("GET", f"{_RUN}/output_items", "List output items.", OutputItemPage, query=ItemsQuery),
    _operation("GET", f"{_RUN}/output_items/{{output_item_id}}", "Retrieve an output item.", OutputItem),
    _operation("POST", f"{_GRADERS}/validate", "Check a grader.", ValidGrader, body=GraderValidate, errors=()),
    _operation("POST", f"{_GRADERS}/run", "Grade one answer.", GraderReward, body=GraderRun, errors=_GRADER_ERRORS),
)
