"""Results by voter: preferences, voters with at least half of the votes, and voters who decide the verdict."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evals.ratings.verdict_states import State
from evals.ratings.voter_means import Cells, VoterMean, voter_mean
from evals.votes.votes import Votes

HALF = 0.5
_TRIED = 50  # voters without whom the verdict is computed: those who differ most from the others
_MANY = 500  # among more voters, none changes the state alone
_LISTED = 200


@dataclass(frozen=True)
class VoterResult:
    """One voter's votes between two models. `win_rate` is the first model's over this voter's prompts, ties as half.

    `prefers` is the preferred model, None if both won equally often. `share` is this voter's part of all votes.
    """

    voter: str
    votes: int
    wins: int
    losses: int
    ties: int
    prompts: int
    win_rate: float
    prefers: str | None
    share: float


@dataclass(frozen=True)
class DecisiveVoter:
    """A voter with at least half of all votes, or without whom the state would be another (`turns`).

    `without` is the state without this voter's votes.
    """

    voter: str
    share: float
    turns: bool
    without: State


def results_by_voter(between: Votes, cells: Cells) -> tuple[VoterResult, ...]:
    """The voters with the most votes first, 200 at most. `between` are votes between two models, `cells` the same."""
    if not len(between):
        return ()
    codes, voter = np.unique(between.voter, return_inverse=True)
    votes = np.bincount(voter)
    won, lost = np.bincount(voter, between.score == 1), np.bincount(voter, between.score == 0)
    prompts = np.bincount(cells.voter)
    rate = np.bincount(cells.voter, cells.score) / prompts
    order = np.argsort(-votes, kind="stable")[:_LISTED]
    return tuple(
        VoterResult(
            voter=between.voter_name(int(codes[i])),
            votes=int(votes[i]),
            wins=int(won[i]),
            losses=int(lost[i]),
            ties=int(votes[i] - won[i] - lost[i]),
            prompts=int(prompts[i]),
            win_rate=float(rate[i]),
            prefers=None if abs(rate[i] - 0.5) < 1e-9 else between.models[int(rate[i] < 0.5)],
            share=float(votes[i] / len(between)),
        )
        for i in order
    )


def decisive_voters(
    between: Votes, cells: Cells, state: State, state_of: Callable[[VoterMean, int], State]
) -> tuple[DecisiveVoter, ...]:
    """Voters with at least half of all votes, and those without whom the state would be another.

    Args:
        state: of all votes.
        state_of: the state of a mean over some voters and their number of cells.
    """
    codes, voter = np.unique(between.voter, return_inverse=True)
    if len(codes) < 2:
        return ()
    share = np.bincount(voter) / len(between)
    rate = np.bincount(cells.voter, cells.score) / np.bincount(cells.voter)
    far = np.argsort(-np.abs(rate - rate.mean()), kind="stable")[: _TRIED if len(codes) <= _MANY else 0]
    found = []
    for i in sorted({*far.tolist(), *np.flatnonzero(share >= HALF).tolist()}, key=lambda i: -share[i]):
        rest = cells.where(cells.voter != i)
        without = state_of(voter_mean(rest), len(rest))
        if share[i] >= HALF or without != state:
            name = between.voter_name(int(codes[i]))
            found.append(DecisiveVoter(name, float(share[i]), without != state, without))
    return tuple(found)
