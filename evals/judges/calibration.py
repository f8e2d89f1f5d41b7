"""A judge's verdicts and people's votes on the same pairs, read from the database for `evals.judges.human_agreement`.

`calibrate` also asks the judge about what people voted on and it has not judged yet.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.judges.answer_pairs import AnsweredPair
from evals.judges.human_agreement import Choice, Group, Opinion, groups, in_words
from evals.judges.judge import BOTH_ORDERS, Instrument, verdicts
from evals.judges.ppi import Powered, powered_if_enough
from evals.judges.report import combine
from evals.judges.rubric import keep_rubric
from evals.request_pool import CONCURRENCY, Report, Steps
from evals.tables import BattleRow, JudgmentRow, PairRow, PromptRow, VoteRow
from evals.votes.prompts import as_prompt
from evals.votes.votes import first_score
from models.database import Database
from models.errors import NotFound
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.messages import Completer

_CHOICE: Mapping[int, Choice] = {0: "tie", 1: "a", 2: "b"}


@dataclass(frozen=True)
class PoweredPair:
    """How often `model_b` wins against `model_a` in people's eyes, from few votes and many verdicts."""

    model_a: str
    model_b: str
    found: Powered


@dataclass(frozen=True)
class Calibration:
    """A judge held against this team's votes.

    `voted` pairs have votes, `judged` of them a verdict in both orders. `groups`: all votes first, then categories.
    `unparsed` counts verdicts that could not be read, `failed` questions that could not be asked in this run.
    """

    judge: str
    rubric: str
    rubric_hash: str
    voted: int
    judged: int
    unparsed: int
    failed: int
    groups: tuple[Group, ...]
    win_rates: tuple[PoweredPair, ...]

    @property
    def words(self) -> str:
        """One paragraph in plain words."""
        said = [in_words(self.judge, self.groups)]
        if self.judged < self.voted:
            said.append(f"It has judged {self.judged} of the {self.voted} pairs with votes.")
        said += [
            f"In people's eyes {one.model_b} wins {one.found.mean:.0%} against {one.model_a} "
            f"({max(0.0, one.found.low):.0%} to {min(1.0, one.found.high):.0%}; from the votes alone "
            f"{max(0.0, one.found.people_low):.0%} to {min(1.0, one.found.people_high):.0%})."
            for one in self.win_rates
        ]
        return " ".join(said)

    def to_json(self) -> dict[str, object]:
        """All of it as plain JSON values, with the paragraph under `words`."""
        from pydantic import TypeAdapter

        return TypeAdapter(Calibration).dump_python(self, mode="json") | {"words": self.words}


async def calibrate(
    database: Database,
    completer_for: Callable[[str], Completer] | None,
    judge: str,
    rubric: Rubric = DEFAULT_RUBRIC,
    report: Report | None = None,
    *,
    concurrency: int = CONCURRENCY,
) -> Calibration:
    """How far a judge agrees with all votes, asked about the pairs with votes that it has not judged yet.

    Args:
        judge: an id, not an alias.
        completer_for: None to ask nothing, and use the verdicts that are there.

    Raises:
        NotFound: there are no votes yet.
        ParleyError: the judge cannot be asked at all.
    """
    pairs = await asyncio.to_thread(_voted, database)
    if not pairs:
        raise NotFound("Nobody has voted yet: votes are cast at the page's /vote, and a judge is held against them.")
    failed = 0
    if completer_for is not None:
        await asyncio.to_thread(keep_rubric, database, rubric)
        steps = Steps(len(pairs) * 2, report, concurrency)
        await verdicts(database, Instrument(judge, completer_for(judge), rubric), pairs, BOTH_ORDERS, steps, "judging")
        failed = len(steps.failures)
    return await asyncio.to_thread(_calibration, database, judge, rubric, {pair.id for pair in pairs}, failed)


def _calibration(database: Database, judge: str, rubric: Rubric, voted: set[str], failed: int) -> Calibration:
    kept, unparsed = _kept(database, judge, rubric.hash)
    votes = votes_on(database, list(voted))
    return Calibration(
        judge=judge,
        rubric=rubric.name,
        rubric_hash=rubric.hash,
        voted=len(voted),
        judged=sum(one.pair in voted for one in kept),
        unparsed=unparsed,
        failed=failed,
        groups=groups(_opinions(kept, votes)),
        win_rates=_win_rates(kept, votes),
    )


def opinions(database: Database, judge: str, rubric_hash: str) -> list[Opinion]:
    """Everything that this judge has said by this rubric, in both orders, beside the votes on the same pairs."""
    kept, _ = _kept(database, judge, rubric_hash)
    return _opinions(kept, votes_on(database, [one.pair for one in kept]))


def votes_on(database: Database, pair_ids: Sequence[str]) -> dict[str, list[tuple[str, float]]]:
    """Each voter's first vote on each of these pairs that has some: (voter, score of the pair's first model)."""
    query = (
        select(BattleRow.pair_id, VoteRow.voter, BattleRow.flipped, VoteRow.choice)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.again.is_(False))
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    wanted = set(pair_ids)
    found: dict[str, dict[str, float]] = {}
    with database.read() as session:
        for pair_id, voter, flipped, choice in session.execute(query):
            if pair_id in wanted:
                found.setdefault(pair_id, {}).setdefault(voter, first_score(choice, flipped))
    return {pair_id: list(votes.items()) for pair_id, votes in found.items()}


@dataclass(frozen=True)
class _Kept:
    """A pair that was judged in both orders: the verdict (a is model_1) and model_1's share of the win."""

    pair: str
    models: tuple[str, str]
    prompt: str
    category: str | None
    judge: Choice
    share: float


def _kept(database: Database, judge: str, rubric_hash: str) -> tuple[list[_Kept], int]:
    """What is kept of a judge by a rubric, and how many verdicts were not read."""
    query = (
        select(JudgmentRow, PairRow.model_1, PairRow.model_2, PairRow.prompt_id, PromptRow.category)
        .join(PairRow, PairRow.id == JudgmentRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        # What was shown a conversation or a reference, or asked several times, is kept under a longer key.
        .where(JudgmentRow.judge == judge, JudgmentRow.rubric_hash.startswith(rubric_hash, autoescape=True))
        .where(JudgmentRow.shown.in_(BOTH_ORDERS))
        .order_by(JudgmentRow.id)
    )
    found: dict[tuple[str, str], dict[str, JudgmentRow]] = {}
    about: dict[tuple[str, str], tuple[tuple[str, str], str, str | None]] = {}
    unparsed = 0
    with database.read() as session:
        for row, model_1, model_2, prompt, category in session.execute(query):
            unparsed += row.verdict is None
            found.setdefault((row.pair_id, row.rubric_hash), {})[row.shown] = row
            about[row.pair_id, row.rubric_hash] = ((model_1, model_2), prompt, category)
    kept: dict[str, _Kept] = {}
    for key, orders in found.items():
        read = [orders[shown] for shown in BOTH_ORDERS if shown in orders and orders[shown].verdict is not None]
        if len(read) == 2:
            outcome, _ = combine(*(_CHOICE[row.verdict or 0] for row in read))
            plain = {0: 0.5, 1: 1.0, 2: 0.0}
            shares = [plain[row.verdict or 0] if row.expected is None else row.expected for row in read]
            # The latest way in which a pair was judged stands for it.
            kept[key[0]] = _Kept(key[0], *about[key], outcome or "tie", sum(shares) / 2)
    return list(kept.values()), unparsed


def _opinions(kept: Sequence[_Kept], votes: Mapping[str, Sequence[tuple[str, float]]]) -> list[Opinion]:
    names: Mapping[float, Choice] = {0.0: "b", 0.5: "tie", 1.0: "a"}
    return [
        Opinion(one.prompt, one.category, one.judge, tuple((voter, names[score]) for voter, score in votes[one.pair]))
        for one in kept
        if one.pair in votes
    ]


def _win_rates(kept: Sequence[_Kept], votes: Mapping[str, Sequence[tuple[str, float]]]) -> tuple[PoweredPair, ...]:
    by_models: dict[tuple[str, str], list[_Kept]] = {}
    for one in kept:
        by_models.setdefault(one.models, []).append(one)
    found = []
    for (model_a, model_b), pairs in sorted(by_models.items()):
        seen = [one for one in pairs if one.pair in votes]
        alone = [one for one in pairs if one.pair not in votes]
        human = [1 - sum(score for _, score in votes[one.pair]) / len(votes[one.pair]) for one in seen]
        mean = powered_if_enough(
            human,
            [1 - one.share for one in seen],
            [1 - one.share for one in alone],
            [one.prompt for one in seen],
            [one.prompt for one in alone],
        )
        if mean:
            found.append(PoweredPair(model_a, model_b, mean))
    return tuple(found)


def _voted(database: Database) -> list[AnsweredPair]:
    """The pairs that have votes."""
    query = (
        select(PairRow, PromptRow)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PairRow.id.in_(select(BattleRow.pair_id).join(VoteRow, VoteRow.battle_id == BattleRow.id)))
        .order_by(PairRow.id)
    )
    with database.read() as session:
        return [
            AnsweredPair(pair.id, as_prompt(prompt), pair.answer_1, pair.answer_2)
            for pair, prompt in session.execute(query)
        ]
