"""Publishes a completed run as an evaluation, which `parley eval show`, `parley eval diff` and the page show."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.api_tables import EvalItemRow, EvalRunRow
from evals.eval_runs.data_sources import model_parameters
from evals.eval_runs.evals import eval_row
from evals.graders.model_graders import score_range
from evals.recordings.recorded_models import recording_notes
from evals.served_models import find_models
from evals.tables import EvaluationRow, ResultRow, TaskRow, TaskSampleRow, insert_once
from evals.tasks.task import Task
from models.database import Database, new_ulid, utcnow
from models.errors import NotFound
from models.settings.settings import Settings

_WITH_THRESHOLD = ("text_similarity", "score_model", "python")


def store_task(session: Session, task: Task) -> None:
    """Stores a task's samples, once for each content."""
    if insert_once(session, TaskRow(hash=task.hash, samples=len(task.samples))):
        session.add_all(
            TaskSampleRow(task_hash=task.hash, place=place, content=sample.to_json())
            for place, sample in enumerate(task.samples)
        )


def publish_evaluation(settings: Settings, database: Database, run_id: str, model: str) -> str:
    """Writes a run's evaluation from its output items; returns the evaluation's id.

    Args:
        model: the model of the answers, or the run's name if there is none.
    """
    notes = _notes(settings, database, model)
    with database.write() as session:
        run = session.scalars(select(EvalRunRow).where(EvalRunRow.id == run_id).with_for_update()).one()
        if run.evaluation_id is not None:  # the job was killed after it had published this
            return run.evaluation_id
        parent = eval_row(session, run.eval_id)
        criteria, request = parent.content["testing_criteria"], run.content["data_source"]
        names = criterion_names(criteria)
        parameters = model_parameters(request.get("sampling_params"))
        key = json.dumps([run.task_hash, model, parameters, sorted(names.values()), run_id])
        evaluation = EvaluationRow(
            id=new_ulid(),
            key=hashlib.sha256(key.encode()).hexdigest(),
            task=parent.name[:255] or run.eval_id,
            source=f"{run.name} ({run_id})",
            task_hash=run.task_hash,
            models=[model],
            parameters={name: value for name, value in parameters.items() if name not in ("tools", "response_format")},
            scorers=[info for criterion in criteria for info in _scorer_infos(criterion, names)],
            notes=notes,
            finished=utcnow(),
        )
        session.add(evaluation)
        session.flush()
        items = session.scalars(select(EvalItemRow).where(EvalItemRow.run_id == run_id).order_by(EvalItemRow.place))
        session.add_all(_result(evaluation.id, model, item, criteria, names) for item in items)
        run.evaluation_id = evaluation.id
        return evaluation.id


def criterion_names(criteria: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Criterion id → its name in an evaluation; of several criteria with one name, the later ones get a number."""
    names: dict[str, str] = {}
    for criterion in criteria:
        name, number = criterion["name"], 1
        while name in names.values():
            number += 1
            name = f"{criterion['name']} {number}"
        names[criterion["id"]] = name
    return names


def _notes(settings: Settings, database: Database, model: str) -> list[str]:
    try:
        specs = find_models(settings, database, model)
    except NotFound:  # the answers come from the data, and the name is not a registered model's
        return []
    toy = "is a toy: it shows how evaluation works, not what a real model can do."
    toys = [f"{spec.id} {toy}" for spec in specs if spec.toy]
    return [*recording_notes(database, specs), *toys]


def _scorer_infos(criterion: Mapping[str, Any], names: Mapping[str, str]) -> list[dict[str, Any]]:
    low, high = _range(criterion)
    name = names[criterion["id"]]
    infos: list[dict[str, Any]] = [{"name": name, "better": "higher", "low": low, "high": high}]
    if criterion["type"] in _WITH_THRESHOLD:
        infos.append({"name": _passed(name), "better": "higher", "low": 0.0, "high": 1.0, "part": True})
    return infos


def _range(criterion: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if criterion["type"] == "python":
        return None, None
    return score_range(criterion) if criterion["type"] == "score_model" else (0.0, 1.0)


def _passed(name: str) -> str:
    return f"{name} · passed"


def _result(
    evaluation_id: str,
    model: str,
    item: EvalItemRow,
    criteria: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
) -> ResultRow:
    scores: dict[str, float | None] = {}
    errors: dict[str, str] = {}
    kinds = {criterion["id"]: criterion["type"] for criterion in criteria}
    for result in item.results:
        if result["name"] not in names:  # an imported result whose criterion is unknown
            continue
        name, failure = names[result["name"]], result.get("error")
        scores[name] = None if failure else result["score"]
        if failure:
            errors[name] = failure["message"]
        elif kinds[result["name"]] in _WITH_THRESHOLD:
            scores[_passed(name)] = float(result["passed"])
    return ResultRow(
        evaluation_id=evaluation_id,
        model=model,
        place=item.place,
        answer_id=item.answer_id,
        error=item.error,
        scores=scores,
        score_errors=errors,
    )
