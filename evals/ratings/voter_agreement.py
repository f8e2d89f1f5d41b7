"""Voter agreement, between people and over time: Krippendorff's alpha, Fleiss' and Cohen's kappa, repeated votes.

A unit is one pair of answers, brought into one order first. Values are nominal: the first answer, the second, or a tie.
Krippendorff 2018, "Content Analysis"; Fleiss 1971, doi:10.1037/h0031619; Cohen 1960, doi:10.1177/001316446002000104.
Arrays in, a frozen result out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from evals.votes.votes import Votes

_VALUES = 3  # lost, tied, won
_RESAMPLES = 300
_SHARED = 10  # a kappa from fewer units in common is meaningless


@dataclass(frozen=True)
class VoterPair:
    """Two voters by name: the units both voted on, the share they agree on, kappa and its standard error.

    `kappa` is None if chance agreement is total. The error is Cohen's, with half a unit added if the voters always or
    never agree, so that it is not zero.
    """

    first: str
    second: str
    shared: int
    agreed: float
    kappa: float | None
    kappa_error: float | None = None


@dataclass(frozen=True)
class Agreement:
    """How much voters agree. `alpha` and `fleiss` are 1 for full agreement and 0 for chance; None if not defined.

    `alpha_error` and `fleiss_error` are standard errors over units. `left_rate` is the share of decisive votes for
    the answer on the left, about a half if sides do not matter; None if sides are not known. `units` counts
    pairs of answers with at least two voters. `observed` is the share of pairs of votes on one unit that agree;
    `decisive` the same without ties, the ceiling for a judge. `low` to `high` is alpha's 95 % interval over units.
    `repeats` counts a voter's later votes on the same unit; `self_consistency` is the share of them that repeat the
    first. `kappas` has voters with at least 10 units in common, most first.
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
    alpha_error: float | None = None
    fleiss: float | None = None
    fleiss_error: float | None = None
    left_rate: float | None = None
    left_error: float | None = None


def agreement(votes: Votes, shared: int = _SHARED, seed: int = 0) -> Agreement:
    """How much these voters agree; a voter's first vote on a unit counts, later ones are repeats.

    The two models of a pair may come in any order.

    Args:
        shared: the units in common that a kappa needs.
        seed: of the bootstrap over units; the same votes give the same interval.
    """
    votes = votes.in_one_order()
    unit, value = votes.units, np.rint(votes.score * 2).astype(np.int64)
    codes, voter = np.unique(votes.voter, return_inverse=True)
    names = [votes.voter_name(int(code)) for code in codes]
    left_rate, left_error = _left_rate(votes, voter)
    once, repeats, same = _first_and_again(unit, voter, value)
    unit, voter, value = unit[once], voter[once], value[once]
    table = np.bincount(unit * _VALUES + value, minlength=_VALUES * (int(unit.max(initial=-1)) + 1))
    table = table.reshape(-1, _VALUES).astype(float)
    table = table[table.sum(axis=1) >= 2]
    coincidences = _coincidences(table)
    alpha = _alpha(coincidences.sum(axis=0))
    several = alpha is not None and len(table) > 1
    low, high, alpha_error, fleiss_error = _resampled(coincidences, table, seed) if several else (None,) * 4
    return Agreement(
        alpha=alpha,
        low=low,
        high=high,
        units=len(table),
        observed=_agreeing(table),
        decisive=_agreeing(table[:, [0, 2]]),
        repeats=repeats,
        self_consistency=same / repeats if repeats else None,
        kappas=_kappas((unit, voter, value), names, shared),
        alpha_error=alpha_error,
        fleiss=_fleiss(table),
        fleiss_error=fleiss_error,
        left_rate=left_rate,
        left_error=left_error,
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


def _resampled(coincidences: np.ndarray, table: np.ndarray, seed: int) -> tuple[float, float, float, float | None]:
    """By the bootstrap over units: alpha's 95 % interval, its standard error, and that of Fleiss' kappa."""
    rng = np.random.default_rng(seed)
    units = len(table)
    # Both statistics are computed from these sums, so that a resample is one matrix product.
    by_unit = np.column_stack([coincidences.reshape(units, -1), _fleiss_terms(table)])
    alphas, kappas = [], []
    for _ in range(_RESAMPLES):
        sums = rng.multinomial(units, np.full(units, 1 / units)) @ by_unit
        alpha = _alpha(sums[: _VALUES**2].reshape(_VALUES, _VALUES))
        kappa = _kappa(sums[_VALUES**2 :], units)
        alphas += [] if alpha is None else [alpha]
        kappas += [] if kappa is None else [kappa]
    if not alphas:
        return -1.0, 1.0, 1.0, None
    low, high = np.quantile(alphas, [0.025, 0.975])
    return float(low), float(high), float(np.std(alphas)), float(np.std(kappas)) if kappas else None


def _fleiss(table: np.ndarray) -> float | None:
    """Fleiss' kappa of (units, values); units may have different numbers of voters."""
    return _kappa(_fleiss_terms(table).sum(axis=0), len(table)) if len(table) else None


def _fleiss_terms(table: np.ndarray) -> np.ndarray:
    """(units, 1 + values): the share of a unit's pairs of votes that agree, and its votes by value."""
    voters = table.sum(axis=1)
    return np.column_stack([(table * (table - 1)).sum(axis=1) / (voters * (voters - 1)), table])


def _kappa(sums: np.ndarray, units: int) -> float | None:
    """Fleiss' kappa from the sums of `_fleiss_terms` over that many units."""
    agreed, shares = float(sums[0]) / units, sums[1:] / sums[1:].sum()
    chance = float((shares**2).sum())
    return (agreed - chance) / (1 - chance) if chance < 1 - 1e-12 else None


def _left_rate(votes: Votes, voter: np.ndarray) -> tuple[float | None, float | None]:
    """The share of decisive votes for the left side, and its standard error clustered by voter and by prompt."""
    if votes.first_left is None:
        return None, None
    decisive = votes.score != 0.5
    left = ((votes.score == 1) == votes.first_left)[decisive].astype(float)
    n = len(left)
    if not n:
        return None, None
    off = left - left.mean()
    by_voter, by_prompt = (float((np.bincount(code[decisive], off) ** 2).sum()) for code in (voter, votes.prompt))
    return float(left.mean()), float(np.sqrt(max(by_voter, by_prompt, 0.25))) / n


def _agreeing(table: np.ndarray) -> float | None:
    together = table.sum(axis=1)
    pairs = float((together * (together - 1)).sum())
    return float((table * (table - 1)).sum()) / pairs if pairs else None


def _kappas(data: tuple[np.ndarray, np.ndarray, np.ndarray], names: list[str], shared: int) -> tuple[VoterPair, ...]:
    unit, voter, value = data
    voters, units = int(voter.max(initial=-1)) + 1, int(unit.max(initial=-1)) + 1
    if voters < 2:
        return ()
    ones = np.ones(len(unit))
    saw = csr_array((ones, (voter, unit)), shape=(voters, units))
    gave = [csr_array((ones * (value == v), (voter, unit)), shape=(voters, units)) for v in range(_VALUES)]
    both = (saw @ saw.T).toarray()
    agreed = np.sum([(votes_for @ votes_for.T).toarray() for votes_for in gave], axis=0)
    # On the units that both saw: how often each gave each value.
    margins = [(votes_for @ saw.T).toarray() for votes_for in gave]
    chance = np.sum([margin * margin.T for margin in margins], axis=0)
    pairs = []
    for i, j in zip(*np.nonzero(np.triu(both >= max(shared, 1), 1)), strict=True):
        n = both[i, j]
        observed, luck = agreed[i, j] / n, chance[i, j] / n**2
        known = luck < 1 - 1e-12
        kappa = float((observed - luck) / (1 - luck)) if known else None
        smoothed = (agreed[i, j] + 0.5) / (n + 1) if observed in (0, 1) else observed
        error = float(np.sqrt(smoothed * (1 - smoothed) / n) / (1 - luck)) if known else None
        pairs.append(VoterPair(names[i], names[j], int(n), float(observed), kappa, error))
    return tuple(sorted(pairs, key=lambda pair: (-pair.shared, pair.first, pair.second)))
