"""Evaluations: a task run over models, scored, stored, and loaded again. `summaries` computes the statistics."""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from evals.scorers.catalog import Better, NamedScorer, Score
from evals.tables import AnswerRow, EvaluationRow, ResultRow, TaskRow, TaskSampleRow, insert_once
from evals.tasks.answer_cache import Outcome, parameters_hash
from evals.tasks.runner import CONCURRENCY, Batch, Progress, Run, ask_all
from evals.tasks.task import Task, TaskSample, request_messages
from models.chat.messages import Completer
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound, Unavailable

LAST = "last"


@dataclass(frozen=True)
class ScorerInfo:
    """A scorer's description: its name, its better direction, its range (None: no bound).

    A `part` is a component of another scorer's scores; it is shown but not compared.
    """

    name: str
    better: Better
    low: float | None
    high: float | None
    part: bool = False


@dataclass(frozen=True)
class Result:
    """One model on one sample: either `text` or `error`; scores by scorer, None if there is no reference."""

    text: str | None
    error: str | None
    scores: Mapping[str, float | None]
    score_errors: Mapping[str, str]
    seconds: float | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    answer_id: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """A task over models with all results: `results[model][i]` belongs to `samples[i]`."""

    id: str
    task: str
    task_hash: str
    source: str
    left_out: int
    models: tuple[str, ...]
    parameters: Mapping[str, Any]
    scorers: tuple[ScorerInfo, ...]
    samples: tuple[TaskSample, ...]
    results: Mapping[str, tuple[Result, ...]]
    notes: tuple[str, ...]
    created: datetime
    finished: datetime | None


@dataclass(frozen=True)
class EvaluationEntry:
    """One line of the list of evaluations."""

    id: str
    task: str
    samples: int
    models: tuple[str, ...]
    scorers: tuple[str, ...]
    failed: int
    created: datetime
    finished: datetime | None


@dataclass(frozen=True)
class EvaluationRun:
    """A finished run: the evaluation's id, and the answers with their timing."""

    id: str
    run: Run


@dataclass(frozen=True)
class TaskRun:
    """What to evaluate: a task, models, scorers, and OpenAI's options for every request.

    Attributes:
        models: ids of versions; aliases only at the edge (`evals.served_runs` resolves them).
        concurrency: requests in flight for each model.
        notes: sentences for the reader of the result, stored with it.
    """

    task: Task
    models: Sequence[str]
    scorers: Sequence[NamedScorer] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = CONCURRENCY
    notes: Sequence[str] = ()


async def run_task(
    database: Database,
    completer_for: Callable[[str], Completer],
    run: TaskRun,
    progress: Callable[[Progress], None] | None = None,
) -> EvaluationRun:
    """Asks, scores and stores. A run with the same task, models, parameters and scorers resumes one that was killed.

    Args:
        completer_for: a model's completer, which must not retry by itself.

    Raises:
        Invalid: no model, a model named twice, no scorer, or a concurrency below one.
        Unavailable: no question was answered.
    """
    if not run.models or len(set(run.models)) < len(run.models):
        raise Invalid("Name at least one model, and each only once.", param="models")
    if not run.scorers:
        raise Invalid("Name at least one scorer, such as --scorers exact,length:5-40.", param="scorers")
    if run.concurrency < 1:
        raise Invalid("The concurrency must be 1 or more.", param="concurrency")
    evaluation_id = await asyncio.to_thread(_begin, database, run)
    batch = Batch(run.models, run.task.samples, run.parameters, run.concurrency)
    answered = await ask_all(database, completer_for, batch, progress)
    outcomes = [outcome for model in run.models for outcome in answered.outcomes[model]]
    if all(outcome.answer is None for outcome in outcomes):
        raise Unavailable(f"None of {len(outcomes)} questions was answered. {outcomes[0].error}")
    scores = await _score(run.task.samples, answered.outcomes, run.scorers)
    late_notes = [note for scorer in run.scorers for note in scorer.late_notes()]
    await asyncio.to_thread(_finish, database, evaluation_id, answered, scores, late_notes)
    return EvaluationRun(evaluation_id, answered)


def load_evaluation(database: Database, evaluation_id: str) -> Evaluation:
    """An evaluation with all its results.

    Args:
        evaluation_id: the id, its ending (at least four characters), or `last`.

    Raises:
        NotFound: there is none.
        Invalid: several ids have this ending.
    """
    with database.read() as session:
        row = _find(session, evaluation_id)
        samples = session.scalars(
            select(TaskSampleRow).where(TaskSampleRow.task_hash == row.task_hash).order_by(TaskSampleRow.place)
        )
        results = session.execute(
            select(ResultRow, AnswerRow)
            .outerjoin(AnswerRow, ResultRow.answer_id == AnswerRow.id)
            .where(ResultRow.evaluation_id == row.id)
            .order_by(ResultRow.place)
        )
        by_model: dict[str, list[Result]] = {model: [] for model in row.models}
        for result, answer in results:
            by_model[result.model].append(
                Result(
                    text=answer.text if answer else None,
                    error=result.error,
                    scores=result.scores,
                    score_errors=result.score_errors,
                    seconds=answer.seconds if answer else None,
                    completion_tokens=answer.completion_tokens if answer else None,
                    finish_reason=answer.finish_reason if answer else None,
                    answer_id=answer.id if answer else None,
                )
            )
        return Evaluation(
            id=row.id,
            task=row.task,
            task_hash=row.task_hash,
            source=row.source,
            left_out=row.left_out,
            models=tuple(row.models),
            parameters=row.parameters,
            scorers=tuple(ScorerInfo(**info) for info in row.scorers),
            samples=tuple(TaskSample.from_json(sample.content) for sample in samples),
            results={model: tuple(results_) for model, results_ in by_model.items()},
            notes=tuple(row.notes),
            created=row.created,
            finished=row.finished,
        )


def list_evaluations(database: Database, task: str | None = None) -> list[EvaluationEntry]:
    """The evaluations, newest first, unfinished ones included; of one task if its name is given."""
    query = select(EvaluationRow, TaskRow.samples).join(TaskRow, TaskRow.hash == EvaluationRow.task_hash)
    if task is not None:
        query = query.where(EvaluationRow.task == task)
    failed = (
        select(ResultRow.evaluation_id, func.count())
        .where(ResultRow.error.is_not(None))
        .group_by(ResultRow.evaluation_id)
    )
    with database.read() as session:
        failures = {row[0]: row[1] for row in session.execute(failed)}
        return [
            EvaluationEntry(
                id=row.id,
                task=row.task,
                samples=samples,
                models=tuple(row.models),
                scorers=tuple(info["name"] for info in row.scorers if not info.get("part")),
                failed=failures.get(row.id, 0),
                created=row.created,
                finished=row.finished,
            )
            for row, samples in session.execute(query.order_by(EvaluationRow.id.desc()))
        ]


def _find(session: Session, evaluation_id: str) -> EvaluationRow:
    query = select(EvaluationRow).where(EvaluationRow.finished.is_not(None)).order_by(EvaluationRow.id.desc())
    if evaluation_id == LAST:
        row = session.scalars(query.limit(1)).first()
        if row is None:
            raise NotFound("There are no evaluations yet: run `parley eval run TASK --models a,b --scorers exact`.")
        return row
    if len(evaluation_id) >= 4:
        matches = [row for row in session.scalars(query) if row.id.endswith(evaluation_id.upper())]
        if len(matches) > 1:
            raise Invalid(
                f"{len(matches)} evaluation ids end in {evaluation_id!r}: use more characters.", param="evaluation"
            )
        if matches:
            return matches[0]
    raise NotFound(
        f"There is no finished evaluation {evaluation_id!r}. `parley eval list` shows them.", param="evaluation"
    )


def _begin(database: Database, run: TaskRun) -> str:
    """The id of the evaluation: a new one, or the unfinished one of the same run."""
    task, scorers = run.task, run.scorers
    names = [scorer.name for scorer in scorers]
    content = json.dumps([task.hash, list(run.models), parameters_hash(run.parameters), names])
    key = hashlib.sha256(content.encode()).hexdigest()
    infos = [
        {"name": name, "better": scorer.better, "low": _finite(scorer.low), "high": _finite(scorer.high)}
        | ({} if name == scorer.name else {"part": True})
        for scorer in scorers
        for name in (scorer.name, *(_part(scorer, part) for part in scorer.parts))
    ]
    notes = list(dict.fromkeys([*run.notes, *(note for scorer in scorers for note in scorer.notes)]))
    with database.write() as session:
        if insert_once(session, TaskRow(hash=task.hash, samples=len(task.samples))):
            session.add_all(
                TaskSampleRow(task_hash=task.hash, place=place, content=sample.to_json())
                for place, sample in enumerate(task.samples)
            )
        unfinished = select(EvaluationRow).where(EvaluationRow.key == key, EvaluationRow.finished.is_(None))
        row = session.scalars(unfinished.order_by(EvaluationRow.id).limit(1)).first()
        if row is None:
            row = EvaluationRow(id=new_ulid(), key=key, task_hash=task.hash, models=list(run.models))
            session.add(row)
        row.task, row.source, row.left_out = task.name, task.source, len(task.bad)
        row.parameters, row.scorers, row.notes = dict(run.parameters), infos, notes
        return row.id


def _part(scorer: NamedScorer, part: str) -> str:
    return f"{scorer.name} · {part}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


async def _score(
    samples: Sequence[TaskSample], outcomes: Mapping[str, Sequence[Outcome]], scorers: Sequence[NamedScorer]
) -> dict[str, list[dict[str, Score]]]:
    """Each sample's scores by scorer, at each model; empty if there is no answer.

    A scorer gets all models' answers at once, so that a slow one, such as a judge, can report its progress.
    """
    answered = [
        (model, place, outcome.answer)
        for model, of_model in outcomes.items()
        for place, outcome in enumerate(of_model)
        if outcome.answer is not None
    ]
    texts = {
        model: [outcome.answer.text if outcome.answer else None for outcome in of_model]
        for model, of_model in outcomes.items()
    }
    references = [
        replace(samples[place].sample, messages=request_messages(samples, texts[model], place))
        for model, place, _ in answered
    ]
    scores: dict[str, list[dict[str, Score]]] = {model: [{} for _ in samples] for model in outcomes}
    for scorer in scorers:
        values = await scorer(references, [answer for *_, answer in answered])
        for (model, place, _), score in zip(answered, values, strict=True):
            scores[model][place][scorer.name] = score
            scores[model][place] |= {_part(scorer, part): Score(value) for part, value in score.parts.items()}
    return scores


def _finish(
    database: Database,
    evaluation_id: str,
    run: Run,
    scores: Mapping[str, list[dict[str, Score]]],
    late_notes: Sequence[str],
) -> None:
    with database.write() as session:
        session.execute(delete(ResultRow).where(ResultRow.evaluation_id == evaluation_id))
        session.add_all(
            ResultRow(
                evaluation_id=evaluation_id,
                model=model,
                place=place,
                answer_id=outcome.answer_id,
                error=outcome.error,
                scores={name: score.value for name, score in by_scorer.items()},
                score_errors={name: score.error for name, score in by_scorer.items() if score.error},
            )
            for model, outcomes in run.outcomes.items()
            for place, (outcome, by_scorer) in enumerate(zip(outcomes, scores[model], strict=True))
        )
        row = session.get_one(EvaluationRow, evaluation_id)
        row.notes = list(dict.fromkeys([*row.notes, *late_notes]))
        row.finished = utcnow()
