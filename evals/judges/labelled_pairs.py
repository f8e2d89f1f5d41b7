"""Pairs that people have labelled: votes and a judge's stored verdicts on the same answers, from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.judges.human_agreement import Choice, LabelledPair
from evals.judges.judge import BOTH_ORDERS
from evals.judges.report import combine_orders
from evals.tables import BattleRow, JudgmentRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.votes import first_score
from models.database import Database

Votes = Mapping[str, Sequence[tuple[str, float]]]
"""By a pair's id: (voter, score of the pair's first model), each voter's first vote."""

_CHOICE: Mapping[int, Choice] = {0: "tie", 1: "a", 2: "b"}


@dataclass(frozen=True)
class StoredVerdict:
    """A pair that was judged in both orders: the verdict (a is model_1) and model_1's share of the win."""

    pair: str
    models: tuple[str, str]
    prompt: str
    category: str | None
    choice: Choice
    share: float


def load_labelled_pairs(
    database: Database, judge: str, rubric_hash: str, campaign: str = OPEN_CAMPAIGN
) -> list[LabelledPair]:
    """Every pair that this judge compared by this rubric in both orders and that has votes of this campaign."""
    verdicts, _ = load_verdicts(database, judge, rubric_hash)
    return label(verdicts, load_votes(database, [verdict.pair for verdict in verdicts], campaign))


def label(verdicts: Sequence[StoredVerdict], votes: Votes) -> list[LabelledPair]:
    """The verdicts on pairs that have votes, with those votes."""
    choices: Mapping[float, Choice] = {0.0: "b", 0.5: "tie", 1.0: "a"}
    return [
        LabelledPair(
            verdict.prompt,
            verdict.category,
            verdict.choice,
            tuple((voter, choices[score]) for voter, score in votes[verdict.pair]),
        )
        for verdict in verdicts
        if verdict.pair in votes
    ]


def load_votes(
    database: Database, pair_ids: Sequence[str], campaign: str = OPEN_CAMPAIGN
) -> dict[str, list[tuple[str, float]]]:
    """Each voter's first vote on each of these pairs that has votes: (voter, score of the pair's first model).

    Only one campaign's votes are read, because campaigns ask different questions.
    """
    query = (
        select(BattleRow.pair_id, VoteRow.voter, BattleRow.flipped, VoteRow.choice)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.campaign == campaign, BattleRow.again.is_(False), *counted())
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    ids = set(pair_ids)
    scores: dict[str, dict[str, float]] = {}
    with database.read() as session:
        for pair_id, voter, flipped, choice in session.execute(query):
            if pair_id in ids:
                scores.setdefault(pair_id, {}).setdefault(voter, first_score(choice, flipped))
    return {pair_id: list(votes.items()) for pair_id, votes in scores.items()}


def load_verdicts(database: Database, judge: str, rubric_hash: str) -> tuple[list[StoredVerdict], int]:
    """A judge's stored verdicts by a rubric, and the number of judgments that could not be parsed."""
    query = (
        select(JudgmentRow, PairRow.model_1, PairRow.model_2, PairRow.prompt_id, PromptRow.category)
        .join(PairRow, PairRow.id == JudgmentRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        # The key of a judgment begins with the rubric's hash: see `Judge.key`.
        .where(JudgmentRow.judge == judge, JudgmentRow.rubric_hash.startswith(rubric_hash, autoescape=True))
        .where(JudgmentRow.shown.in_(BOTH_ORDERS))
        .order_by(JudgmentRow.id)
    )
    orders: dict[tuple[str, str], dict[str, JudgmentRow]] = {}
    context: dict[tuple[str, str], tuple[tuple[str, str], str, str | None]] = {}
    unparsed = 0
    with database.read() as session:
        for row, model_1, model_2, prompt, category in session.execute(query):
            unparsed += row.verdict is None
            orders.setdefault((row.pair_id, row.rubric_hash), {})[row.shown] = row
            context[row.pair_id, row.rubric_hash] = ((model_1, model_2), prompt, category)
    verdicts: dict[str, StoredVerdict] = {}
    for key, rows in orders.items():
        parsed = [rows[order] for order in BOTH_ORDERS if order in rows and rows[order].verdict is not None]
        if len(parsed) == 2:
            outcome, _ = combine_orders(*(_CHOICE[row.verdict or 0] for row in parsed))
            plain = {0: 0.5, 1: 1.0, 2: 0.0}
            shares = [plain[row.verdict or 0] if row.expected is None else row.expected for row in parsed]
            # If a pair was judged in several ways, the latest counts.
            verdicts[key[0]] = StoredVerdict(key[0], *context[key], outcome or "tie", sum(shares) / 2)
    return list(verdicts.values()), unparsed
