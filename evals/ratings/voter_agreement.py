"""Voter agreement, between people and over time: Krippendorff's alpha, Cohen's kappas, repeated votes.

A unit is one pair of answers. Values are nominal: the first answer, the second, or a tie. Krippendorff 2018, "Content
Analysis"; Cohen 1960, doi:10.1177/001316446002000104. Arrays in, a frozen result out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from evals.votes.votes import Votes

_VALUES = 3  # lost, tied, won
_RESAMPLES = 300
_SHARED = 10  # fewer units in common make a kappa meaningless


@dataclass(frozen=True)
class VoterPair:
    """Two voters: the units both voted on, the share they agree on, and kappa; None where chance agreement is total."""

    first: int
    second: int
    shared: int
    agreed: float
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """How far voters agree. `alpha` is 1 for full agreement and 0 for chance; None where it is not defined.

    `units` counts pairs of answers with at least two voters. `observed` is the share of pairs of votes on one unit that
    agree; `decisive` the same without ties, the ceiling for a judge. `low` to `high` is alpha's 95 % interval over
    units. `repeats` counts a voter's later votes on the same unit; `self_consistency` is the share of them that repeat
    the first. `kappas` has voters with at least 10 units in common, most first.
    """

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    observed: float | None
    decisive: float | None
    repeats: int
    self_consistency: float | None
    kappas: tuple[VoterPair, ...]


def agreement(votes: Votes, shared: int = _SHARED, seed: int = 0) -> Agreement:
    """How far these voters agree; a voter's first vote on a unit counts, later ones are repeats.

    Args:
        shared: the units in common that a kappa needs.
        seed: of the bootstrap over units; the same votes give the same interval.
    """
    unit, value = votes.units, np.rint(votes.score * 2).astype(np.int64)
    voter = np.unique(votes.voter, return_inverse=True)[1] if len(votes) else votes.voter
    once, repeats, same = _first_and_again(unit, voter, value)
    unit, voter, value = unit[once], voter[once], value[once]
    table = np.bincount(unit * _VALUES + value, minlength=_VALUES * (int(unit.max(initial=-1)) + 1))
    table = table.reshape(-1, _VALUES).astype(float)
    table = table[table.sum(axis=1) >= 2]
    coincidences = _coincidences(table)
    alpha = _alpha(coincidences.sum(axis=0))
    low, high = _interval(coincidences, seed) if alpha is not None and len(table) > 1 else (None, None)
    return Agreement(
        alpha=alpha,
        low=low,
        high=high,
        units=len(table),
        observed=_agreeing(table),
        decisive=_agreeing(table[:, [0, 2]]),
        repeats=repeats,
        self_consistency=same / repeats if repeats else None,
        kappas=_kappas(unit, voter, value, shared),
    )


def alpha_of(table: np.ndarray) -> float | None:
    """Krippendorff's nominal alpha.

    Args:
        table: (units, values), how many voters gave each unit each value; units with one voter are ignored.
    """
    table = np.asarray(table, dtype=float)
    return _alpha(_coincidences(table[table.sum(axis=1) >= 2]).sum(axis=0))


def _first_and_again(unit: np.ndarray, voter: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The places of each voter's first vote on each unit; the number of later votes, and of those that repeat it."""
    key = unit * (int(voter.max(initial=0)) + 1) + voter
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    again = np.ones(len(key), dtype=bool)
    again[first] = False
    same = value[again] == value[first][inverse[again]]
    return np.sort(first), int(again.sum()), int(same.sum())


def _coincidences(table: np.ndarray) -> np.ndarray:
    """(units, values, values): each unit's pairs of votes, weighted by the unit's number of votes."""
    pairs = table[:, :, None] * table[:, None, :]
    diagonal = np.arange(table.shape[1])
    pairs[:, diagonal, diagonal] -= table
    return pairs / np.maximum(table.sum(axis=1) - 1, 1)[:, None, None]


def _alpha(coincidences: np.ndarray) -> float | None:
    values = coincidences.sum(axis=1)
    n = float(values.sum())
    expected = n**2 - float((values**2).sum())
    if expected <= 0:
        return None
    return 1 - (n - 1) * (n - float(np.trace(coincidences))) / expected


def _interval(coincidences: np.ndarray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    flat = coincidences.reshape(len(coincidences), -1)
    drawn = (rng.multinomial(len(flat), np.full(len(flat), 1 / len(flat))) @ flat for _ in range(_RESAMPLES))
    alphas = [alpha for one in drawn if (alpha := _alpha(one.reshape(_VALUES, _VALUES))) is not None]
    if not alphas:
        return -1.0, 1.0
    low, high = np.quantile(alphas, [0.025, 0.975])
    return float(low), float(high)


def _agreeing(table: np.ndarray) -> float | None:
    together = table.sum(axis=1)
    pairs = float((together * (together - 1)).sum())
    return float((table * (table - 1)).sum()) / pairs if pairs else None


def _kappas(unit: np.ndarray, voter: np.ndarray, value: np.ndarray, shared: int) -> tuple[VoterPair, ...]:
    voters, units = int(voter.max(initial=-1)) + 1, int(unit.max(initial=-1)) + 1
    if voters < 2:
        return ()
    ones = np.ones(len(unit))
    saw = csr_array((ones, (voter, unit)), shape=(voters, units))
    gave = [csr_array((ones * (value == v), (voter, unit)), shape=(voters, units)) for v in range(_VALUES)]
    both = (saw @ saw.T).toarray()
    agreed = np.sum([(one @ one.T).toarray() for one in gave], axis=0)
    # On the units that both saw: how often each gave each value.
    margins = [(one @ saw.T).toarray() for one in gave]
    chance = np.sum([margin * margin.T for margin in margins], axis=0)
    found = []
    for i, j in zip(*np.nonzero(np.triu(both >= max(shared, 1), 1)), strict=True):
        n = both[i, j]
        seen, luck = agreed[i, j] / n, chance[i, j] / n**2
        kappa = float((seen - luck) / (1 - luck)) if luck < 1 - 1e-12 else None
        found.append(VoterPair(int(i), int(j), int(n), float(seen), kappa))
    return tuple(sorted(found, key=lambda pair: (-pair.shared, pair.first, pair.second)))
