"""Votes as arrays: what rating and verdict compute on. Reading them from the database is here; computing is not.

A vote is brought into one order first, the pair's sorted models, and its score flipped with it (METHOD: leaving
that out once lost half of a benchmark's comparisons). «Tie» and «both bad» are half a win each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow

if TYPE_CHECKING:
    from models.database import Database


@dataclass(frozen=True, eq=False)
class Votes:
    """n votes over m models, in the order in which they were cast.

    `first`, `second`: (n,) integers into `models`. `score`: (n,) floats, the share of the win that `first` got: 1,
    0.5 or 0. `prompt`, `voter`: (n,) integers from 0 that tell prompts and voters apart.
    """

    models: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    score: np.ndarray
    prompt: np.ndarray
    voter: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def between(self, model_a: str, model_b: str) -> Votes:
        """Only the votes between two models, scored from the side of `model_a`; both are in `models`, a first."""
        if model_a not in self.models or model_b not in self.models:
            return from_rows([], models=(model_a, model_b))
        a, b = self.models.index(model_a), self.models.index(model_b)
        keep = ((self.first == a) & (self.second == b)) | ((self.first == b) & (self.second == a))
        score = np.where(self.first[keep] == a, self.score[keep], 1.0 - self.score[keep])
        zeros = np.zeros(len(score), dtype=np.int64)
        return Votes((model_a, model_b), zeros, zeros + 1, score, self.prompt[keep], self.voter[keep])


def from_rows(rows: Iterable[tuple[str, str, float, Hashable, Hashable]], models: Sequence[str] | None = None) -> Votes:
    """Votes from rows of (model, model, score of the first, prompt, voter), whatever names prompt and voter have.

    Args:
        models: the models in the order wanted; without it, those that occur, sorted.
    """
    rows = list(rows)
    names = tuple(models) if models is not None else tuple(sorted({m for row in rows for m in row[:2]}))
    at = {name: i for i, name in enumerate(names)}
    return Votes(
        models=names,
        first=np.array([at[row[0]] for row in rows], dtype=np.int64),
        second=np.array([at[row[1]] for row in rows], dtype=np.int64),
        score=np.array([row[2] for row in rows], dtype=np.float64),
        prompt=_codes([row[3] for row in rows]),
        voter=_codes([row[4] for row in rows]),
    )


def read_votes(database: Database, category: str | None = None) -> Votes:
    """Every stored vote, oldest first; of one category of prompts where it is given."""
    query = (
        select(PairRow.model_1, PairRow.model_2, BattleRow.flipped, VoteRow.choice, PairRow.prompt_id, VoteRow.voter)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    if category is not None:
        query = query.join(PromptRow, PromptRow.id == PairRow.prompt_id).where(PromptRow.category == category)
    with database.read() as session:
        return from_rows(
            (first, second, first_score(choice, flipped), prompt, voter)
            for first, second, flipped, choice, prompt, voter in session.execute(query)
        )


def first_score(choice: str, flipped: bool) -> float:
    """What a vote gives to the pair's first model: 1, 0.5 or 0. `flipped`: the first model stood on the right."""
    if choice in ("tie", "both_bad"):
        return 0.5
    return float((choice == "left") != flipped)


def _codes(values: Sequence[Hashable]) -> np.ndarray:
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.int64)
