"""Recomputes the verdicts of a run's deterministic graders and compares them with the stored ones."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from evals.api_tables import EvalItemRow, EvalRunRow
from evals.eval_runs.evals import eval_row
from evals.eval_runs.items import item_id, item_query
from evals.graders.grade import Case, GradingContext
from evals.graders.grading import grade_all, models_of
from evals.graders.sandbox import check_sandbox
from evals.graders.templates import sample_values
from evals.tables import AnswerRow
from evals.tasks.task import TaskSample
from models.chat.messages import as_dicts
from models.database import Database
from models.errors import Invalid, NotFound

RECORDED_ONLY = "recorded_only"  # of a criterion: why only its stored verdicts are known
_TOLERANCE = 0.005  # of a metric's score: libraries round, and split words, in slightly different ways


@dataclass(frozen=True)
class Deviation:
    """An item for which the recomputed verdict or score differs from the stored one."""

    item: str
    criterion: str
    stored: tuple[bool, float]
    computed: tuple[bool, float]
    error: str | None = None

    def __str__(self) -> str:
        return f"{self.item} {self.criterion}: stored {_verdict(*self.stored)}, computed " + (
            self.error or _verdict(*self.computed)
        )


@dataclass
class Verification:
    """How many verdicts were compared and how many are equal, those that differ, and the graders left out, with why."""

    compared: int = 0
    equal: int = 0
    deviations: list[Deviation] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def verify_run(database: Database, run_id: str, *, unsandboxed: bool = False) -> Verification:
    """Compares the verdicts of a run's deterministic graders; those of models are not reproducible.

    Args:
        unsandboxed: the owner's setting for Python graders on a machine without a sandbox.

    Raises:
        NotFound: there is no such run.
    """
    with database.read() as session:
        run = session.scalar(select(EvalRunRow).where(EvalRunRow.id == run_id))
        if run is None:
            raise NotFound(f"The evals API has no run {run_id!r}: use the id of one, such as evalrun_….", param="run")
        criteria = eval_row(session, run.eval_id).content["testing_criteria"]
        rows: Sequence[Any] = session.execute(item_query(run).order_by(EvalItemRow.place)).all()
        items = [(item, TaskSample.from_json(sample.content), answer) for item, sample, answer in rows]
        tools = (run.content["data_source"].get("sampling_params") or {}).get("tools") or []
    result = Verification()
    for criterion in criteria:
        if reason := _why_left_out(criterion, unsandboxed):
            result.left_out.append(f"{criterion['name']} ({criterion['type']}): {reason}")
            continue
        stored = [
            (item, verdict, stored_case(sample, answer, tools))
            for item, sample, answer in items
            for verdict in item.results
            if verdict["name"] == criterion["id"] and not verdict.get("error")
        ]
        grades = asyncio.run(grade_all(criterion, [case for *_, case in stored], _no_models(unsandboxed)))
        for (item, verdict, _), grade in zip(stored, grades, strict=True):
            result.compared += 1
            same = grade.passed == verdict["passed"] and abs(grade.score - verdict["score"]) <= _TOLERANCE
            if grade.error is None and same:
                result.equal += 1
                continue
            before, now = (verdict["passed"], verdict["score"]), (grade.passed, grade.score)
            place = item_id(run_id, item.place)
            result.deviations.append(Deviation(place, criterion["name"], before, now, grade.error))
    return result


def stored_case(sample: TaskSample, answer: AnswerRow | None, input_tools: Sequence[Any] = ()) -> Case:
    """An item with its stored answer, as the input of a grader: the values that the grader had during the run."""
    given = sample.sample.metadata.get("sample") or {}
    text = answer.text if answer else ""
    calls = (answer.tool_calls or []) if answer else []
    message = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
    finish_reason = (answer.finish_reason if answer else None) or "stop"
    own = {
        "input": as_dicts(sample.messages),
        "input_tools": list(input_tools),
        "output_tools": calls,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "model": answer.model if answer else "",
    }
    return Case(sample.sample.metadata["item"], own | sample_values(text, **given) | given)


def _why_left_out(criterion: Mapping[str, Any], unsandboxed: bool) -> str | None:
    """Why a criterion's verdicts cannot be recomputed; None if they can."""
    if reason := criterion.get(RECORDED_ONLY):
        return str(reason)
    if criterion["type"] == "python":
        try:
            check_sandbox(unsandboxed)
        except Invalid as error:
            return str(error)
    elif models_of(criterion):
        return "a model's verdict is not reproducible"
    return None


def _no_models(unsandboxed: bool) -> GradingContext:
    async def ask(*_: Any) -> Any:
        raise AssertionError("deterministic graders ask no model")

    return GradingContext(ask, lambda texts: [], unsandboxed)


def _verdict(passed: bool, score: float) -> str:
    return f"{'pass' if passed else 'fail'} ({score:.4g})"
