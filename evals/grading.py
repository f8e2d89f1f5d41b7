"""A served model as a judge of one answer at a time: 1 to 5, constrained JSON, resumable.

For comparing two models `evals.judging` is the better instrument; grades are for watching one model, and for more
than two. What does not parse is counted, never a default grade.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.answers import AnsweredPair, answered_pairs, pick_prompts
from evals.judging import JUDGMENT_TOKENS
from evals.steps import CONCURRENCY, Report, Steps
from evals.tables import JudgmentRow, insert_once
from models.database import Database, new_ulid
from models.errors import Invalid
from models.judge_format import (
    DEFAULT_RUBRIC,
    Rubric,
    parse_pointwise,
    pointwise_messages,
    pointwise_schema,
    response_format,
)
from models.messages import Completer


@dataclass(frozen=True)
class Grades:
    """One model's grades: the mean of 1 to 5 with its interval by prompt; None where nothing was graded."""

    model: str
    mean: float | None
    low: float
    high: float
    graded: int
    unparsed: int
    scores: Mapping[str, float]


async def grade_models(
    database: Database,
    completer_for: Callable[[str], Completer],
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    rubric: Rubric = DEFAULT_RUBRIC,
    report: Report | None = None,
    *,
    concurrency: int = CONCURRENCY,
) -> tuple[Grades, Grades]:
    """Has a judge grade two models' answers one by one; the arguments are those of `judging.judge_models`.

    Raises:
        Invalid: the two models are one.
        NotFound: there are no such prompts.
        Unavailable: not one answer, or not one grade, could be had.
    """
    if models[0] == models[1]:
        raise Invalid("Name two models that differ.", param="models")
    chosen = pick_prompts(database, prompts)
    steps = Steps(len(chosen) * 3, report, concurrency)
    pairs = await answered_pairs(database, completer_for, models, chosen, steps)
    rows = await asyncio.to_thread(_stored, database, judge, rubric, pairs)
    missing = [(pair, shown) for pair in pairs for shown in ("1", "2") if (pair.id, shown) not in rows]
    steps.skip(len(chosen) * 2 - len(missing))
    complete = completer_for(judge)

    async def grade(question: tuple[AnsweredPair, str]) -> None:
        pair, shown = question
        answer = pair.answer_1 if shown == "1" else pair.answer_2
        said = await complete(
            pointwise_messages(pair.prompt.question, answer, rubric),
            temperature=0.0,
            max_tokens=JUDGMENT_TOKENS,
            response_format=response_format("grade", pointwise_schema(rubric)),
        )
        parsed = parse_pointwise(said.text, rubric)
        row = JudgmentRow(
            id=new_ulid(),
            pair_id=pair.id,
            judge=judge,
            rubric_hash=rubric.hash,
            shown=shown,
            verdict=parsed and parsed.score,
            scores=parsed and {shown: dict(parsed.scores)},
            reasons=parsed and parsed.reasons,
            raw=said.text,
        )
        await asyncio.to_thread(_store, database, row)
        rows[pair.id, shown] = row

    await steps.each(missing, grade, "grading")
    if not rows:
        raise steps.failures[-1]
    names = sorted(models)
    first, second = (_grades(model, str(names.index(model) + 1), pairs, rows) for model in models)
    return first, second


def _grades(
    model: str, shown: str, pairs: Sequence[AnsweredPair], rows: Mapping[tuple[str, str], JudgmentRow]
) -> Grades:
    from evals.intervals import mean_interval

    found = [(pair, row) for pair in pairs if (row := rows.get((pair.id, shown)))]
    graded = [(pair, row) for pair, row in found if row.verdict is not None]
    values = [float(row.verdict or 0) for _, row in graded]
    estimate = mean_interval(values, [pair.prompt.id for pair, _ in graded])
    scores: dict[str, list[int]] = {}
    for _, row in graded:
        for criterion, score in (row.scores or {}).get(shown, {}).items():
            scores.setdefault(criterion, []).append(score)
    return Grades(
        model=model,
        mean=estimate.mean if graded else None,
        # A grade lies between 1 and 5, and so does what can be said of its mean.
        low=max(1.0, estimate.low) if graded else 1.0,
        high=min(5.0, estimate.high) if graded else 5.0,
        graded=len(graded),
        unparsed=len(found) - len(graded),
        scores={criterion: sum(values) / len(values) for criterion, values in scores.items()},
    )


def _stored(
    database: Database, judge: str, rubric: Rubric, pairs: Sequence[AnsweredPair]
) -> dict[tuple[str, str], JudgmentRow]:
    query = select(JudgmentRow).where(
        JudgmentRow.judge == judge,
        JudgmentRow.rubric_hash == rubric.hash,
        JudgmentRow.shown.in_(("1", "2")),
        JudgmentRow.pair_id.in_([pair.id for pair in pairs]),
    )
    with database.read() as session:
        return {(row.pair_id, row.shown): row for row in session.scalars(query)}


def _store(database: Database, row: JudgmentRow) -> None:
    with database.write() as session:
        insert_once(session, row)
