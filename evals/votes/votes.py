"""Votes as arrays, read from the database: the input of ratings and verdicts.

Every vote is normalised to the pair's sorted models, with its score flipped accordingly. "Tie" and "both bad" are half
a win each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select

from evals.campaign_tables import OPEN_CAMPAIGN, CriterionVoteRow, RaterRow
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.training_prompts import no_training_record

if TYPE_CHECKING:
    import pandas as pd

    from models.database import Database

    Column = Sequence[Any] | np.ndarray | pd.Series


@dataclass(frozen=True, eq=False)
class Votes:
    """n votes over m models, in the order in which they were cast.

    `first`, `second`: (n,) integers into `models`. `score`: (n,) floats, the share of the win that `first` got: 1,
    0.5 or 0. `prompt`, `voter`: (n,) integers from 0 that identify prompts and voters. `pair`: (n,) integers that
    identify pairs of answers; without it, a prompt and its two models are one pair. `both_bad`: (n,) booleans, the ties
    if both answers were bad. `first_left`: (n,) booleans, whether `first` was shown on the left. Both are None if
    it is not known. `voters`: the voters' names by their integers; empty where only the integers are known.
    """

    models: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    score: np.ndarray
    prompt: np.ndarray
    voter: np.ndarray
    pair: np.ndarray | None = None
    both_bad: np.ndarray | None = None
    first_left: np.ndarray | None = None
    voters: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)

    @property
    def units(self) -> np.ndarray:
        """(n,) integers from 0: which pair of answers each vote is about."""
        if self.pair is not None:
            return self.pair
        m = len(self.models)
        low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
        return np.unique((self.prompt * m + low) * m + high, return_inverse=True)[1]

    def voter_name(self, voter: int) -> str:
        """The voter's name, or "voter 1" and so on if names are not known."""
        return self.voters[voter] if self.voters else f"voter {voter + 1}"

    def where(self, keep: np.ndarray) -> Votes:
        """Some of the votes. `keep`: (n,) booleans, or integers that also set the order."""
        pair, both_bad, first_left = (
            part if part is None else part[keep] for part in (self.pair, self.both_bad, self.first_left)
        )
        return replace(
            self,
            first=self.first[keep],
            second=self.second[keep],
            score=self.score[keep],
            prompt=self.prompt[keep],
            voter=self.voter[keep],
            pair=pair,
            both_bad=both_bad,
            first_left=first_left,
        )

    def in_one_order(self) -> Votes:
        """The same votes with each pair's models in the order of `models`, the score flipped if they were not."""
        turned = self.first > self.second
        if not turned.any():
            return self
        return replace(
            self,
            first=np.minimum(self.first, self.second),
            second=np.maximum(self.first, self.second),
            score=np.where(turned, 1.0 - self.score, self.score),
            first_left=None if self.first_left is None else self.first_left != turned,
        )

    def between(self, model_a: str, model_b: str) -> Votes:
        """Only the votes between two models, scored for `model_a`; `models` has both, `model_a` first."""
        if model_a not in self.models or model_b not in self.models:
            return from_rows([], models=(model_a, model_b))
        a, b = self.models.index(model_a), self.models.index(model_b)
        keep = ((self.first == a) & (self.second == b)) | ((self.first == b) & (self.second == a))
        kept = self.where(keep)
        turned = kept.first != a
        zeros = np.zeros(len(kept), dtype=np.int64)
        return replace(
            kept,
            models=(model_a, model_b),
            first=zeros,
            second=zeros + 1,
            score=np.where(turned, 1.0 - kept.score, kept.score),
            first_left=None if kept.first_left is None else kept.first_left != turned,
        )


def from_rows(rows: Iterable[tuple[str, str, float, Hashable, Hashable]], models: Sequence[str] | None = None) -> Votes:
    """Votes from rows of (model, model, score of the first, prompt, voter); prompt and voter are any hashable values.

    Args:
        models: the models in order; by default those that occur, sorted.
    """
    rows = list(rows)
    names = tuple(models) if models is not None else tuple(sorted({m for row in rows for m in row[:2]}))
    at = {name: i for i, name in enumerate(names)}
    voter, voters = _codes([row[4] for row in rows])
    return Votes(
        models=names,
        first=np.array([at[row[0]] for row in rows], dtype=np.int64),
        second=np.array([at[row[1]] for row in rows], dtype=np.int64),
        score=np.array([row[2] for row in rows], dtype=np.float64),
        prompt=_codes([row[3] for row in rows])[0],
        voter=voter,
        voters=tuple(map(str, voters)),
    )


@dataclass(frozen=True, eq=False)
class StoredVotes:
    """Votes as they are stored. `pair_ids[votes.pair[i]]` is the pair of answers that vote i is about.

    `category`: (n,) integers into `categories`, which are sorted; −1 if the prompt has none.
    """

    votes: Votes
    pair_ids: tuple[str, ...]
    categories: tuple[str, ...]
    category: np.ndarray


@dataclass(frozen=True)
class VoteSelection:
    """Which votes are read: those of one campaign, since campaigns ask different questions.

    Attributes:
        category: only votes on prompts of this category.
        open_links: include votes from open links, which need no invite.
        repeats: include votes on a pair that was shown again on purpose: for voter agreement, never for a rating.
        criterion: one of the campaign's further criteria instead of the overall choice.
    """

    category: str | None = None
    campaign: str = OPEN_CAMPAIGN
    open_links: bool = True
    repeats: bool = False
    criterion: str | None = None


def read_votes(
    database: Database, category: str | None = None, campaign: str = OPEN_CAMPAIGN, *, open_links: bool = True
) -> Votes:
    """The votes of a campaign, or those on one category of prompts; oldest first.

    Left out are votes on gold pairs and on recorded answers to training prompts, of excluded voters and of undone
    imports. Campaigns ask different questions, so their votes are never pooled.

    Args:
        open_links: include votes from open links, which need no invite.
    """
    return stored_votes(database, VoteSelection(category, campaign, open_links)).votes


def stored_votes(database: Database, which: VoteSelection | None = None) -> StoredVotes:
    """As `read_votes`, with each vote's pair of answers and category; by default the votes of the campaign `open`."""
    which = which or VoteSelection()
    choice = VoteRow.choice if which.criterion is None else CriterionVoteRow.choice
    query = (
        select(
            PairRow.model_1, PairRow.model_2, BattleRow.flipped, choice, PairRow.prompt_id, VoteRow.voter,
            PairRow.id, PromptRow.category,
        )
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(BattleRow.campaign == which.campaign, *counted())
        .order_by(VoteRow.created, VoteRow.battle_id)
    )  # fmt: skip
    if which.criterion is not None:
        query = query.join(CriterionVoteRow, CriterionVoteRow.battle_id == VoteRow.battle_id)
        query = query.where(CriterionVoteRow.criterion == which.criterion)
    if not which.open_links:
        invited = select(RaterRow.voter).where(RaterRow.campaign == which.campaign, RaterRow.link == "invite")
        query = query.where(BattleRow.import_id.is_not(None) | VoteRow.voter.in_(invited))
    if which.category is not None:
        query = query.where(PromptRow.category == which.category)
    if not which.repeats:
        query = query.where(BattleRow.again.is_(False))
    with database.read() as session:
        rows = session.execute(query.where(no_training_record(session))).all()
    votes = from_rows(
        (first, second, first_score(choice, flipped), prompt, voter)
        for first, second, flipped, choice, prompt, voter, _, _ in rows
    )
    pair_ids = tuple(dict.fromkeys(row[6] for row in rows))
    place = {pair_id: i for i, pair_id in enumerate(pair_ids)}
    categories = tuple(sorted({row[7] for row in rows if row[7] is not None}))
    number = {name: i for i, name in enumerate(categories)}
    return StoredVotes(
        votes=replace(
            votes,
            pair=np.array([place[row[6]] for row in rows], dtype=np.int64),
            both_bad=np.array([row[3] == "both_bad" for row in rows], dtype=bool),
            first_left=np.array([not row[2] for row in rows], dtype=bool),
        ),
        pair_ids=pair_ids,
        categories=categories,
        category=np.array([-1 if row[7] is None else number[row[7]] for row in rows], dtype=np.int64),
    )


def count_votes(database: Database) -> int:
    """How many votes are stored."""
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(VoteRow)) or 0


def from_columns(first: Column, second: Column, score: Column, prompt: Column, voter: Column) -> Votes:
    """As `from_rows`, from columns of one length: lists, arrays or pandas Series. Fast for millions of votes."""
    # One column at a time: two at once cause twice as many cache misses.
    (codes_1, names_1), (codes_2, names_2) = _factorized(first), _factorized(second)
    names = sorted({*names_1, *names_2})
    at = {name: i for i, name in enumerate(names)}
    return Votes(
        models=tuple(map(str, names)),
        first=np.array([at[name] for name in names_1], np.int64)[codes_1],
        second=np.array([at[name] for name in names_2], np.int64)[codes_2],
        score=np.asarray(score, np.float64),
        prompt=_coded(prompt),
        voter=_coded(voter),
    )


def _coded(column: Column) -> np.ndarray:
    """Integers from 0 that identify values; the values themselves if they are such integers already."""
    values = np.asarray(column)
    if values.dtype.kind in "iu" and len(values) and values.min() >= 0 and values.max() < 4 * len(values):
        return values.astype(np.int64, copy=False)
    return _factorized(column)[0]


def _factorized(column: Column) -> tuple[np.ndarray, list[Any]]:
    import pandas as pd  # hashes strings several times faster than a dict

    codes, values = (column if isinstance(column, pd.Series) else pd.Index(np.asarray(column))).factorize()
    return np.asarray(codes, np.int64), list(values)


def first_score(choice: str, flipped: bool) -> float:
    """The score of the pair's first model: 1, 0.5 or 0. `flipped`: the first model was on the right."""
    if choice in ("tie", "both_bad"):
        return 0.5
    return float((choice == "left") != flipped)


def _codes(values: Sequence[Hashable]) -> tuple[np.ndarray, list[Hashable]]:
    seen: dict[Hashable, int] = {}
    codes = np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)
    return codes, list(seen)
