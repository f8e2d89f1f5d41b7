"""Style control: ratings as if all answers had the same length and formatting.

Four covariates of the difference between two answers (tokens, headers, list items, bold), each (a − b) / (a + b + 1),
divided by its spread, are fitted beside the strengths with a ridge penalty: Chiang et al. 2024, arXiv:2403.04132, and
the arena's style control. Show raw and controlled ratings together: people may rightly prefer longer answers. Arrays
in, a frozen result out; `read_styles` reads the answers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import t as student
from sqlalchemy import select

from evals.ratings.bradley_terry import ELO, MEAN, Cluster, Strengths, clustered_by, count, strengths, voter_weights
from evals.tables import PairRow
from evals.votes.votes import Votes

if TYPE_CHECKING:
    from models.database import Database

COVARIATES = ("tokens", "headers", "lists", "bold")
_RIDGE = 1.0  # a prior of N(0, 1) on each coefficient, for a covariate of spread 1
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_WORD = re.compile(r"\w+")
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_READ_AT_ONCE = 500  # pairs in one query, below SQLite's limit of parameters


@dataclass(frozen=True, eq=False)
class StyleControl:
    """m models rated with equal style; arrays (m,) in the order of `models`, on the Elo scale with mean 1000.

    `effect`, `effect_low`, `effect_high` (4,): what one standard deviation more of each of COVARIATES is worth in Elo.
    `varies` (4,): the covariates in which answers differ at all. `votes` counts the votes on answers with known texts.
    """

    models: tuple[str, ...]
    rating: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effect: np.ndarray
    effect_low: np.ndarray
    effect_high: np.ndarray
    varies: np.ndarray
    votes: int
    clustered_by: str | None


def style_of(text: str) -> tuple[int, int, int, int]:
    """The numbers of tokens (words and signs), headers, list items and bold runs; code counts as tokens only."""
    prose = _CODE.sub("", text) if "```" in text else text
    words = _WORD.findall(text)  # every other character that is not white space is a sign
    # Checking for the characters first is several times as fast as a search without a match.
    return (
        len(words) + len("".join(text.split())) - sum(map(len, words)),
        len(_HEADER.findall(prose)) if "#" in prose else 0,
        len(_ITEM.findall(prose)),
        len(_BOLD.findall(prose)) if "**" in prose or "__" in prose else 0,
    )


def style_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(a − b) / (a + b + 1) of counts of any shape: between −1 and 1, and antisymmetric."""
    return (first - second) / (first + second + 1.0)


def read_styles(database: "Database", pair_ids: Sequence[str]) -> np.ndarray:
    """(pairs, 4): the style difference of each stored pair's answers, NaN if a text is not known."""
    styles = np.full((len(pair_ids), 2, len(COVARIATES)), np.nan)
    place = {pair_id: i for i, pair_id in enumerate(pair_ids)}
    with database.read() as session:
        for start in range(0, len(pair_ids), _READ_AT_ONCE):
            some = pair_ids[start : start + _READ_AT_ONCE]
            query = select(PairRow.id, PairRow.answer_1, PairRow.answer_2).where(PairRow.id.in_(some))
            for pair_id, first, second in session.execute(query):
                if first.strip() and second.strip():
                    styles[place[pair_id]] = style_of(first), style_of(second)
    return style_difference(styles[:, 0], styles[:, 1])


def control(
    votes: Votes,
    differences: np.ndarray,
    *,
    cluster: Cluster = "prompt",
    equal_voters: bool = False,
    ridge: float = _RIDGE,
    level: float = 0.95,
) -> StyleControl:
    """The ratings with equal style.

    Args:
        differences: (n, 4), each vote's `style_difference` of its first answer against its second; rows with NaN are
            left out, with their votes.
        cluster, equal_voters: as in `evals.ratings.bradley_terry.rate`.
    """
    known = ~np.isnan(differences).any(axis=1)
    votes, differences = votes.where(np.flatnonzero(known)), differences[known]
    m, n = len(votes.models), len(votes)
    spread = np.sqrt((differences**2).mean(axis=0)) if n else np.zeros(len(COVARIATES))
    # Not centred: a vote and its mirror image must have the same effect.
    x = differences / np.where(spread > 0, spread, 1.0)
    equal = voter_weights(votes) if equal_voters else None
    weight = np.ones(n) if equal is None else equal
    solution, bread, residual = _fit(_Weighted(votes, weight), x, strengths(count(votes, equal)), ridge)
    name = clustered_by(votes, cluster)
    variance, groups = _variance(votes, x, bread, residual, name)
    width = student.ppf((1 + level) / 2, max(groups - 1, 1)) * np.sqrt(np.clip(variance, 0.0, None))
    rating, effect = MEAN + ELO * solution[:m], ELO * solution[m:]
    return StyleControl(
        models=votes.models,
        rating=rating,
        low=rating - ELO * width[:m],
        high=rating + ELO * width[:m],
        effect=effect,
        effect_low=effect - ELO * width[m:],
        effect_high=effect + ELO * width[m:],
        varies=spread > 0,
        votes=n,
        clustered_by=name,
    )


def _design(votes: Votes, x: np.ndarray) -> csr_array:
    """(n, m + 4): +1 and −1 for the two models, then the covariates."""
    n, m, k = len(votes), len(votes.models), x.shape[1]
    rows = np.concatenate([np.repeat(np.arange(n), 2), np.repeat(np.arange(n), k)])
    columns = np.concatenate([np.stack([votes.first, votes.second], axis=1).ravel(), np.tile(m + np.arange(k), n)])
    values = np.concatenate([np.tile([1.0, -1.0], n), x.ravel()])
    return csr_array((values, (rows, columns)), shape=(n, m + k))


class _Weighted(NamedTuple):
    votes: Votes
    weight: np.ndarray


def _fit(data: _Weighted, x: np.ndarray, start: Strengths, ridge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strengths and coefficients, (m + 4,); the inverse of the information; each vote's weighted residual, (n,)."""
    votes, each = data
    m, k = len(votes.models), x.shape[1]
    design = _design(votes, x)
    # The half votes that bound a model that won everything count as votes between equally styled answers.
    i, j = np.nonzero(np.triu(start.extra))
    half = np.zeros((len(i), m + k))
    half[np.arange(len(i)), i], half[np.arange(len(i)), j] = 1.0, -1.0
    weight = 2 * start.extra[i, j]
    same_part = np.zeros((m + k, m + k))
    same_part[:m, :m] = start.part[:, None] == start.part[None, :]
    penalty = np.diag(np.r_[np.zeros(m), np.full(k, ridge)])

    def loss(at: np.ndarray) -> float:
        edge, half_edge = design @ at, half @ at
        own = each @ np.logaddexp(0.0, edge) - (each * votes.score) @ edge
        added = weight @ (np.logaddexp(0.0, half_edge) - half_edge / 2)
        return float(own + added + at @ penalty @ at / 2)

    at = np.r_[start.strength, np.zeros(k)]
    now = loss(at)
    for _ in range(100):
        chance, half_chance = _logistic(design @ at), _logistic(half @ at)
        gradient = design.T @ (each * (votes.score - chance)) + half.T @ (weight * (0.5 - half_chance)) - penalty @ at
        weighted = design.multiply((each * chance * (1 - chance))[:, None]).tocsr()
        curve = (design.T @ weighted).toarray() + (half.T * (weight * half_chance * (1 - half_chance))) @ half
        curve = curve + penalty
        scale = max(float(np.abs(curve[:m, :m]).mean()), 1e-12) if m else 1.0
        curve = curve + scale * same_part
        step = np.linalg.solve(curve, gradient)
        while (reached := loss(at + step)) > now + 1e-9 * abs(now):
            step /= 2
        at, now = at + step, reached
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return at, np.linalg.inv(curve), each * (votes.score - _logistic(design @ at))


def _logistic(edge: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(edge, -500, 500)))


def _variance(
    votes: Votes, x: np.ndarray, bread: np.ndarray, residual: np.ndarray, name: str | None
) -> tuple[np.ndarray, int]:
    """(m + 4,): the variances, the largest of the clusterings; and the number of clusters."""
    vote = np.arange(len(votes))
    if name != "prompt and voter":
        code = {"prompt": votes.prompt, "voter": votes.voter, None: vote}[name]
        covariance, groups = _sandwich(votes, x, bread, residual, code)
        return np.diag(covariance), groups
    codes = (votes.prompt, votes.voter, vote)
    (prompt, prompts), (voter, voters), (by_vote, _) = (_sandwich(votes, x, bread, residual, code) for code in codes)
    by_prompt, by_voter = np.diag(prompt), np.diag(voter)
    both = by_prompt + by_voter - np.diag(by_vote)
    return np.maximum(np.maximum(by_prompt, by_voter), both), min(prompts, voters)


def _sandwich(
    votes: Votes, x: np.ndarray, bread: np.ndarray, residual: np.ndarray, code: np.ndarray
) -> tuple[np.ndarray, int]:
    """Covariance of strengths and coefficients, clustered; and the number of clusters."""
    n = len(votes)
    used, group = np.unique(code, return_inverse=True)
    groups = len(used)
    by_group = csr_array((residual, (group, np.arange(n))), shape=(groups, n))
    sums = by_group @ _design(votes, x)
    factor = groups / max(groups - 1, 1) * max(n - 1, 1) / max(n - bread.shape[0] + 1, 1)
    covariance = bread @ (factor * (sums.T @ sums).toarray()) @ bread
    # As for the raw rating: votes without spread do not give certainty (the rule of three).
    floor = min(3 / max(groups, 1), 1.0) * bread
    if groups and (np.diag(covariance) < np.diag(floor) * (1 - 1e-6)).any():
        covariance = covariance + floor
    return covariance, groups
