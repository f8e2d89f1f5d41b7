"""A served model as a judge of two others: both orders, constrained JSON, resumable. Summing up is `evals.report`'s.

What a judge is sent and must answer stands in `models.judge_format`, where the training of judges has it from too.
Each verdict is stored when it comes, so that a run that was cut off goes on where it was.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.answers import AnsweredPair, answered_pairs, pick_prompts
from evals.canaries import CALLS, Trap, results, traps
from evals.report import JudgedPair, JudgeReport, Outcome, combine, summarise
from evals.steps import CONCURRENCY, Report, Steps
from evals.tables import BattleRow, JudgmentRow, VoteRow, insert_once
from evals.votes import first_score
from models.database import Database, new_ulid
from models.errors import Invalid
from models.judge_format import (
    DEFAULT_RUBRIC,
    PairwiseVerdict,
    Rubric,
    pairwise_messages,
    pairwise_schema,
    parse_pairwise,
    response_format,
)
from models.messages import Completer

JUDGMENT_TOKENS = 400  # the JSON of a verdict is under 300 tokens in every vocabulary tried
_WINNER = {"12": {"A": 1, "B": 2, "tie": 0}, "21": {"A": 2, "B": 1, "tie": 0}}


@dataclass(frozen=True)
class _Said:
    """One stored judgment: winner 1, 2 or 0, None where unparsed; scores by "1" and "2"."""

    winner: int | None
    scores: Mapping[str, Mapping[str, int]] | None
    reasons: str | None


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
) -> JudgeReport:
    """Has a judge compare the answers of two models, in both orders, and reports on the second against the first.

    Answers and verdicts that are stored are used again; the rest is asked for, `concurrency` questions at a time.

    Args:
        judge, models: ids, not aliases: what is stored belongs to one immutable version.
        prompts: how many, or their ids; without it, all. See `evals.answers.pick_prompts`.
        report: called with the progress, 0 to 1, and a line; an exception from it stops the run.

    Raises:
        Invalid: the two models are one.
        NotFound: there are no such prompts.
        Unavailable: not one answer, or not one verdict, could be had; it says why.
    """
    model_a, model_b = models
    if model_a == model_b:
        raise Invalid("A judge compares two models: name two that differ.", param="models")
    chosen = pick_prompts(database, prompts)
    steps = Steps(len(chosen) * 3 + CALLS, report, concurrency)
    pairs = await answered_pairs(database, completer_for, models, chosen, steps)
    steps.skip((len(chosen) - len(pairs)) * 2)
    asked = _Asker(completer_for(judge), rubric)
    said = await asyncio.to_thread(_stored, database, judge, rubric, pairs)
    missing = [(pair, shown) for pair in pairs for shown in _WINNER if (pair.id, shown) not in said]
    steps.skip(len(pairs) * 2 - len(missing))

    async def compare(question: tuple[AnsweredPair, str]) -> None:
        pair, shown = question
        answers = (pair.answer_1, pair.answer_2) if shown == "12" else (pair.answer_2, pair.answer_1)
        row = _judgment(pair.id, judge, rubric, shown, *await asked.about(pair.prompt.question, *answers))
        await asyncio.to_thread(_store, database, row)
        said[pair.id, shown] = _Said(row.verdict, row.scores, row.reasons)

    async def trap(set_trap: Trap) -> PairwiseVerdict | None:
        return (await asked.about(set_trap.question, *set_trap.shown))[0]

    await steps.each(missing, compare, "judging")
    if not said:
        raise steps.failures[-1]
    set_traps = traps(pairs)
    seen = await steps.each(set_traps, trap, "testing the judge")
    people = await asyncio.to_thread(_votes, database, [pair.id for pair in pairs])
    flip = model_a > model_b  # stored in sorted order; the report is in the order asked for
    return summarise(
        judge=judge,
        models=models,
        rubric=rubric.name,
        rubric_hash=rubric.hash,
        rows=[_row(pair, said, people.get(pair.id), flip) for pair in pairs],
        canaries=results(set_traps, [verdict.verdict if verdict else None for verdict in seen]),
        unparsed=sum(one.winner is None for one in said.values()),
        failed=len(steps.failures),
        notes=notes,
    )


@dataclass(frozen=True)
class _Asker:
    """Puts one comparison to the judge."""

    complete: Completer
    rubric: Rubric

    async def about(self, question: str, first: str, second: str) -> tuple[PairwiseVerdict | None, str]:
        """(verdict, the judge's text); the verdict is None where the text is none."""
        answer = await self.complete(
            pairwise_messages(question, first, second, self.rubric),
            temperature=0.0,
            max_tokens=JUDGMENT_TOKENS,
            response_format=response_format("verdict", pairwise_schema(self.rubric)),
        )
        return parse_pairwise(answer.text, self.rubric), answer.text


def _judgment(
    pair_id: str, judge: str, rubric: Rubric, shown: str, verdict: PairwiseVerdict | None, raw: str
) -> JudgmentRow:
    first, second = shown
    return JudgmentRow(
        id=new_ulid(),
        pair_id=pair_id,
        judge=judge,
        rubric_hash=rubric.hash,
        shown=shown,
        verdict=verdict and _WINNER[shown][verdict.verdict],
        scores=verdict and {first: dict(verdict.scores_a), second: dict(verdict.scores_b)},
        reasons=verdict and verdict.reasons,
        raw=raw,
    )


def _store(database: Database, row: JudgmentRow) -> None:
    with database.write() as session:
        insert_once(session, row)


def _stored(
    database: Database, judge: str, rubric: Rubric, pairs: Sequence[AnsweredPair]
) -> dict[tuple[str, str], _Said]:
    query = select(JudgmentRow).where(
        JudgmentRow.judge == judge,
        JudgmentRow.rubric_hash == rubric.hash,
        JudgmentRow.shown.in_(_WINNER),
        JudgmentRow.pair_id.in_([pair.id for pair in pairs]),
    )
    with database.read() as session:
        return {(row.pair_id, row.shown): _Said(row.verdict, row.scores, row.reasons) for row in session.scalars(query)}


def _votes(database: Database, pair_ids: Sequence[str]) -> dict[str, float]:
    """The mean human score of each pair's first model, where people voted on it."""
    query = (
        select(BattleRow.pair_id, BattleRow.flipped, VoteRow.choice)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.pair_id.in_(pair_ids))
    )
    scores: dict[str, list[float]] = {}
    with database.read() as session:
        for pair_id, flipped, choice in session.execute(query):
            scores.setdefault(pair_id, []).append(first_score(choice, flipped))
    return {pair_id: sum(values) / len(values) for pair_id, values in scores.items()}


def _row(pair: AnsweredPair, said: Mapping[tuple[str, str], _Said], people: float | None, flip: bool) -> JudgedPair:
    """The pair as the report tells it: a is model_1, or model_2 where `flip`."""
    names: dict[int | None, Outcome | None] = {0: "tie", 1: "b" if flip else "a", 2: "a" if flip else "b", None: None}
    orders = [said.get((pair.id, shown)) for shown in ("12", "21")]
    outcomes = [names[one.winner] if one else None for one in orders]
    # "12" shows model_1 first, which is b where the report is the other way round.
    a_first, b_first = reversed(outcomes) if flip else outcomes
    outcome, consistent = combine(a_first, b_first)
    majority = None if people is None else 0 if people == 0.5 else 1 if people > 0.5 else 2
    sides = ("2", "1") if flip else ("1", "2")
    answers = {"1": pair.answer_1, "2": pair.answer_2}
    scores_a, scores_b = ({**_mean([one.scores[side] for one in orders if one and one.scores])} for side in sides)
    return JudgedPair(
        pair_id=pair.id,
        prompt_id=pair.prompt.id,
        question=pair.prompt.question,
        category=pair.prompt.category,
        answer_a=answers[sides[0]],
        answer_b=answers[sides[1]],
        a_first=a_first,
        b_first=b_first,
        outcome=outcome,
        consistent=consistent,
        scores_a=scores_a,
        scores_b=scores_b,
        reasons=next((one.reasons for one in orders if one and one.reasons), "") or "",
        people=names[majority],
    )


def _mean(scores: Sequence[Mapping[str, int]]) -> dict[str, float]:
    criteria = scores[0] if scores else ()
    return {criterion: sum(score[criterion] for score in scores) / len(scores) for criterion in criteria}
