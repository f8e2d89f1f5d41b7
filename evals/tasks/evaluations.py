"""Evaluations: a task run over models, scored and stored; loaded again by id. Statistics are in `summaries`."""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from evals.scorers.catalog import Better, NamedScorer, Score
from evals.tables import AnswerRow, EvaluationRow, ResultRow, TaskRow, TaskSampleRow, insert_once
from evals.tasks.answer_cache import Outcome, parameters_hash
from evals.tasks.runner import CONCURRENCY, Progress, Run, ask_all
from evals.tasks.task import Task, TaskSample, asked_of
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound, Unavailable
from models.messages import Completer

LAST = "last"


@dataclass(frozen=True)
class ScorerFacts:
    """What is known of a scorer without running it: its name, its good end, its range (None: no bound).

    `part`: it is what another one's scores are made of, and is shown, not compared.
    """

    name: str
    better: Better
    low: float | None
    high: float | None
    part: bool = False


@dataclass(frozen=True)
class Result:
    """One model on one sample. Either `text` or `error`; scores by scorer, None where there was nothing to score by."""

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
    scorers: tuple[ScorerFacts, ...]
    samples: tuple[TaskSample, ...]
    results: Mapping[str, tuple[Result, ...]]
    notes: tuple[str, ...]
    created: datetime
    finished: datetime | None


@dataclass(frozen=True)
class Listed:
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
class Evaluated:
    """What `run_task` made: the evaluation's id, and what the asking took."""

    id: str
    run: Run


async def run_task(
    database: Database,
    completer_for: Callable[[str], Completer],
    task: Task,
    models: Sequence[str],
    scorers: Sequence[NamedScorer],
    parameters: Mapping[str, Any],
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[Progress], None] | None = None,
    notes: Sequence[str] = (),
) -> Evaluated:
    """Asks, scores and stores. The same task, models, parameters and scorers go on where a killed run stopped.

    Args:
        models: ids of versions; `completer_for` gives their completers, which must not retry by themselves.
        parameters: OpenAI's options for every request.
        notes: what a reader of the result should know besides; stored with it.

    Raises:
        Invalid: no model, one named twice, no scorer, or a concurrency below one.
        Unavailable: not one answer could be had.
    """
    if not models or len(set(models)) < len(models):
        raise Invalid("Name at least one model, and each once.", param="models")
    if not scorers:
        raise Invalid("Name at least one scorer, as in --scorers exact,length:5-40.", param="scorers")
    if concurrency < 1:
        raise Invalid("At least one request must be in flight.", param="concurrency")
    notes = list(dict.fromkeys([*notes, *(note for scorer in scorers for note in scorer.notes)]))
    evaluation_id = await asyncio.to_thread(_begin, database, task, models, scorers, parameters, notes)
    run = await ask_all(
        database, completer_for, models, task.samples, parameters, concurrency=concurrency, progress=progress
    )
    outcomes = [outcome for model in models for outcome in run.outcomes[model]]
    if all(outcome.answer is None for outcome in outcomes):
        raise Unavailable(f"Not one of {len(outcomes)} questions was answered. {outcomes[0].error}")
    scores = await asyncio.to_thread(_scored, task.samples, run.outcomes, scorers)
    learnt = [note for scorer in scorers for note in scorer.learnt()]
    await asyncio.to_thread(_finish, database, evaluation_id, run, scores, learnt)
    return Evaluated(evaluation_id, run)


def load_evaluation(database: Database, wanted: str) -> Evaluation:
    """An evaluation with all its results.

    Args:
        wanted: the id, its end (four characters at least), or `last`.

    Raises:
        NotFound: there is none. Invalid: several end so.
    """
    with database.read() as session:
        row = _find(session, wanted)
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
            scorers=tuple(ScorerFacts(**facts) for facts in row.scorers),
            samples=tuple(TaskSample.from_json(sample.content) for sample in samples),
            results={model: tuple(found) for model, found in by_model.items()},
            notes=tuple(row.notes),
            created=row.created,
            finished=row.finished,
        )


def list_evaluations(database: Database, task: str | None = None) -> list[Listed]:
    """The evaluations, newest first, those that are unfinished too; of one task by its name where it is given."""
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
            Listed(
                id=row.id,
                task=row.task,
                samples=samples,
                models=tuple(row.models),
                scorers=tuple(facts["name"] for facts in row.scorers if not facts.get("part")),
                failed=failures.get(row.id, 0),
                created=row.created,
                finished=row.finished,
            )
            for row, samples in session.execute(query.order_by(EvaluationRow.id.desc()))
        ]


def _find(session: Session, wanted: str) -> EvaluationRow:
    query = select(EvaluationRow).where(EvaluationRow.finished.is_not(None)).order_by(EvaluationRow.id.desc())
    if wanted == LAST:
        row = session.scalars(query.limit(1)).first()
        if row is None:
            raise NotFound("Nothing was evaluated yet: `parley eval run TASK --models a,b --scorers exact`.")
        return row
    if len(wanted) >= 4:
        found = [row for row in session.scalars(query) if row.id.endswith(wanted.upper())]
        if len(found) > 1:
            raise Invalid(f"{len(found)} evaluations end with {wanted!r}: write more of the id.", param="evaluation")
        if found:
            return found[0]
    raise NotFound(f"There is no finished evaluation {wanted!r}: `parley eval list` shows them.", param="evaluation")


def _begin(
    database: Database,
    task: Task,
    models: Sequence[str],
    scorers: Sequence[NamedScorer],
    parameters: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """The id of the evaluation: a new one, or the one that was not finished."""
    names = [scorer.name for scorer in scorers]
    content = json.dumps([task.hash, list(models), parameters_hash(parameters), names])
    key = hashlib.sha256(content.encode()).hexdigest()
    facts = [
        {"name": name, "better": scorer.better, "low": _finite(scorer.low), "high": _finite(scorer.high)}
        | ({} if name == scorer.name else {"part": True})
        for scorer in scorers
        for name in (scorer.name, *(_part(scorer, part) for part in scorer.parts))
    ]
    with database.write() as session:
        if insert_once(session, TaskRow(hash=task.hash, samples=len(task.samples))):
            session.add_all(
                TaskSampleRow(task_hash=task.hash, place=place, content=sample.to_json())
                for place, sample in enumerate(task.samples)
            )
        unfinished = select(EvaluationRow).where(EvaluationRow.key == key, EvaluationRow.finished.is_(None))
        row = session.scalars(unfinished.order_by(EvaluationRow.id).limit(1)).first()
        if row is None:
            row = EvaluationRow(id=new_ulid(), key=key, task_hash=task.hash, models=list(models))
            session.add(row)
        row.task, row.source, row.left_out = task.name, task.source, len(task.bad)
        row.parameters, row.scorers, row.notes = dict(parameters), facts, list(notes)
        return row.id


def _part(scorer: NamedScorer, part: str) -> str:
    return f"{scorer.name} · {part}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scored(
    samples: Sequence[TaskSample], outcomes: Mapping[str, Sequence[Outcome]], scorers: Sequence[NamedScorer]
) -> dict[str, list[dict[str, Score]]]:
    """Each sample's scores by scorer, at each model; empty where there is no answer: a failure is no zero.

    A scorer gets all models' answers at once: one that takes its time, as a judge does, then knows how far it is.
    """
    there = [
        (model, place, outcome.answer)
        for model, found in outcomes.items()
        for place, outcome in enumerate(found)
        if outcome.answer is not None
    ]
    texts = {
        model: [outcome.answer.text if outcome.answer else None for outcome in found]
        for model, found in outcomes.items()
    }
    asked = [
        replace(samples[place].sample, messages=asked_of(samples, texts[model], place)) for model, place, _ in there
    ]
    scores: dict[str, list[dict[str, Score]]] = {model: [{} for _ in samples] for model in outcomes}
    for scorer in scorers:
        given = scorer(asked, [answer for *_, answer in there])
        for (model, place, _), score in zip(there, given, strict=True):
            scores[model][place][scorer.name] = score
            scores[model][place] |= {_part(scorer, part): Score(value) for part, value in score.parts.items()}
    return scores


def _finish(
    database: Database,
    evaluation_id: str,
    run: Run,
    scores: Mapping[str, list[dict[str, Score]]],
    learnt: Sequence[str],
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
                scores={name: score.value for name, score in found.items()},
                score_errors={name: score.error for name, score in found.items() if score.error},
            )
            for model, outcomes in run.outcomes.items()
            for place, (outcome, found) in enumerate(zip(outcomes, scores[model], strict=True))
        )
        row = session.get_one(EvaluationRow, evaluation_id)
        row.notes = list(dict.fromkeys([*row.notes, *learnt]))
        row.finished = utcnow()
