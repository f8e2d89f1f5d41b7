"""A served model as a judge of two others: both orders, constrained JSON, resumable. Summing up is
`evals.judges.report`'s.

How one question is put and kept is `evals.judges.judge`'s; what it is held against, people's votes, comes from
`evals.judges.calibration`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evals.judges.answer_pairs import AnsweredPair, answered_pairs, pick_prompts
from evals.judges.calibration import opinions, votes_on
from evals.judges.canaries import CALLS, Trap, results, traps
from evals.judges.human_agreement import groups
from evals.judges.judge import BOTH_ORDERS, Instrument, Kept, Said, Shown, mean_scores, verdicts
from evals.judges.report import JudgedPair, JudgeReport, Outcome, combine, summarise
from evals.judges.rubric import keep_rubric
from evals.request_pool import CONCURRENCY, Report, Steps
from evals.tables import JudgmentRow
from models.database import Database
from models.errors import Invalid
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.messages import Completer


async def judge_models(
    database: Database,
    completer_for: Callable[[str], Completer],
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    rubric: Rubric = DEFAULT_RUBRIC,
    report: Report | None = None,
    *,
    notes: Sequence[str] = (),
    concurrency: int = CONCURRENCY,
    samples: int = 1,
    references: Mapping[str, str] | None = None,
) -> JudgeReport:
    """Has a judge compare the answers of two models, in both orders, and reports on the second against the first.

    Answers and verdicts that are stored are used again; the rest is asked for, `concurrency` questions at a time. A
    verdict that could not be read is asked for again.

    Args:
        judge, models: ids, not aliases: what is stored belongs to one immutable version.
        prompts: how many, or their ids; without it, all. See `evals.judges.answer_pairs.pick_prompts`.
        report: called with the progress, 0 to 1, and a line; an exception from it stops the run.
        samples: how often each question is asked; more than once at a temperature of 0.7.
        references: right answers by prompt id, which the judge is shown.

    Raises:
        Invalid: the two models are one, or `samples` is not 1 to 32.
        NotFound: there are no such prompts.
        Unavailable: not one answer, or not one verdict, could be had; it says why.
    """
    model_a, model_b = models
    if model_a == model_b:
        raise Invalid("A judge compares two models: name two that differ.", param="models")
    instrument = Instrument(judge, completer_for(judge), rubric, samples, references or {})
    chosen = pick_prompts(database, prompts)
    changed = await asyncio.to_thread(keep_rubric, database, rubric)
    steps = Steps(len(chosen) * 3 + CALLS, report, concurrency)
    pairs = await answered_pairs(database, completer_for, models, chosen, steps)
    steps.skip((len(chosen) - len(pairs)) * 2)
    return await judged(
        database, instrument, models, Answered(pairs), steps, notes=[*notes, *([changed] if changed else [])]
    )


@dataclass(frozen=True)
class Answered:
    """What is to be judged: pairs with answers on both sides, rows of what has none, and the turn of each pair."""

    pairs: Sequence[AnsweredPair]
    nulls: Sequence[JudgedPair] = ()
    turns: Mapping[str, int] = field(default_factory=dict)


async def judged(
    database: Database,
    instrument: Instrument,
    models: tuple[str, str],
    answered: Answered,
    steps: Steps,
    *,
    table: Kept = JudgmentRow,
    notes: Sequence[str] = (),
) -> JudgeReport:
    """The judge's report on these pairs: verdicts in both orders, canaries, and its agreement with people.

    Args:
        steps: two for each pair and `canaries.CALLS` are taken.
        table: where the verdicts are kept.

    Raises:
        ParleyError: there is not one verdict; the last error.
    """
    pairs, rubric = answered.pairs, instrument.rubric
    failed: dict[tuple[str, Shown], str] = {}
    said = await verdicts(database, instrument, pairs, BOTH_ORDERS, steps, "judging", table, failed)
    # A judge that refuses every question is a result of nulls; one that cannot be reached is none.
    if not said and any(not isinstance(error, Invalid) for error in steps.failures):
        raise steps.failures[-1]

    async def trap(one: Trap) -> Said:
        return await instrument.about(one.pair, one.shown, "12")

    set_traps = traps(pairs)
    seen = await steps.each(set_traps, trap, "testing the judge")
    people = await asyncio.to_thread(votes_on, database, [pair.id for pair in pairs])
    known = await asyncio.to_thread(opinions, database, instrument.judge, rubric.hash)
    flip = models[0] > models[1]  # stored in sorted order; the report is in the order asked for
    rows = [
        replace(
            _row(pair, said, [score for _, score in people.get(pair.id, ())], flip),
            turn=answered.turns.get(pair.id, 1),
            null=_why_null(pair, said, failed),
        )
        for pair in pairs
    ]
    return summarise(
        judge=instrument.judge,
        models=models,
        rubric=rubric.name,
        rubric_hash=rubric.hash,
        rubric_version=rubric.version,
        samples=instrument.samples,
        rows=[*rows, *answered.nulls],
        canaries=results(set_traps, seen),
        unparsed=sum(one.verdict is None for one in said.values()),
        failed=len(steps.failures),
        weighed=sum(one.expected is not None for one in said.values()),
        people=groups(known),
        notes=notes,
    )


def _why_null(
    pair: AnsweredPair, said: Mapping[tuple[str, Shown], Said], failed: Mapping[tuple[str, Shown], str]
) -> str | None:
    """Why there is no verdict in both orders; None where there is one."""
    for shown in BOTH_ORDERS:
        one = said.get((pair.id, shown))
        if one is None:
            return f"the judge could not be asked: {failed.get((pair.id, shown), 'it did not answer')}"
        if one.verdict is None:
            return "the judge's word could not be read"
    return None


def _row(pair: AnsweredPair, said: Mapping[tuple[str, Shown], Said], votes: Sequence[float], flip: bool) -> JudgedPair:
    """The pair as the report tells it: a is model_1, or model_2 where `flip`. `votes` are scores of model_1."""
    names: dict[int | None, Outcome | None] = {0: "tie", 1: "b" if flip else "a", 2: "a" if flip else "b", None: None}
    orders = [said.get((pair.id, shown)) for shown in BOTH_ORDERS]
    outcomes = [names[one.verdict] if one else None for one in orders]
    # "12" shows model_1 first, which is b where the report is the other way round.
    a_first, b_first = reversed(outcomes) if flip else outcomes
    outcome, consistent = combine(a_first, b_first)
    first_share = sum(votes) / len(votes) if votes else None
    majority = None if first_share is None else 0 if first_share == 0.5 else 1 if first_share > 0.5 else 2
    sides = ("2", "1") if flip else ("1", "2")
    answers = {"1": pair.answer_1, "2": pair.answer_2}
    scores = mean_scores([one.scores for one in orders if one and one.scores])
    judged_share = None if outcome is None else sum(one.share for one in orders if one) / len(orders)
    return JudgedPair(
        pair_id=pair.id,
        prompt_id=pair.cluster or pair.prompt.id,
        question=pair.prompt.question,
        category=pair.prompt.category,
        answer_a=answers[sides[0]],
        answer_b=answers[sides[1]],
        a_first=a_first,
        b_first=b_first,
        outcome=outcome,
        consistent=consistent,
        scores_a=scores.get(sides[0], {}),
        scores_b=scores.get(sides[1], {}),
        reasons=next((one.reasons for one in orders if one and one.reasons), "") or "",
        people=names[majority],
        people_share=_of_b(first_share, flip),
        share=_of_b(judged_share, flip),
        before_a=pair.before(sides[0]),
        before_b=pair.before(sides[1]),
    )


def _of_b(share: float | None, flip: bool) -> float | None:
    """Model_1's share of a win as b's."""
    return share if share is None or flip else 1 - share
