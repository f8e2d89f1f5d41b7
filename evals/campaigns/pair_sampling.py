"""Which two models are compared next. Pure: counts in, a drawn pair with its probability out.

Up to four models: evenly, in random order within each round. More: in proportion to the information of one more vote,
log(1 + w·Var(θi − θj)), where θ are Bradley–Terry strengths, Var is their covariance's, and w = p(1 − p) is the
information of one vote (D-optimal design); a tenth of the draws is uniform, so that every pair has a chance.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ModelPair = tuple[str, str]
EVEN_UP_TO = 4  # models
_UNIFORM_SHARE = 0.1
_RIDGE = 0.25  # a normal prior with a standard deviation of 2 in log-odds, for models without votes
_STEPS = 12


@dataclass(frozen=True)
class PairCount:
    """How often two models were shown together, how many votes that gave, and model_1's share of the wins."""

    shown: int = 0
    voted: int = 0
    points: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """Two models, and the probability with which they were drawn from the pairs that could be shown."""

    models: ModelPair
    probability: float


_NEVER = PairCount()


def draw_models(
    models: Sequence[str], pairs: Sequence[ModelPair], counts: Mapping[ModelPair, PairCount], chance: random.Random
) -> Drawn:
    """Draws one of `pairs`, which are not empty.

    Args:
        models: all models of the campaign, sorted.
        pairs: those that can be shown, each in sorted order.
        counts: by pair; one that is missing was never shown.
    """
    if len(models) <= EVEN_UP_TO:
        least = min(counts.get(pair, _NEVER).shown for pair in pairs)
        level = [pair for pair in pairs if counts.get(pair, _NEVER).shown == least]
        return Drawn(chance.choice(level), 1 / len(level))
    gains = _gains(models, pairs, counts)
    shares = _UNIFORM_SHARE / len(pairs) + (1 - _UNIFORM_SHARE) * gains / gains.sum()
    place = chance.choices(range(len(pairs)), weights=shares.tolist())[0]
    return Drawn(pairs[place], float(shares[place]))


def draw_side(earlier: Sequence[bool], chance: random.Random, *, balanced: bool) -> bool:
    """Whether the models' sides are swapped.

    Args:
        earlier: the same of this voter's earlier battles of these two models.
        balanced: two of every four are swapped. Not used if names are revealed, since the fourth side could be guessed.
    """
    if not balanced:
        return chance.random() < 0.5
    block = earlier[len(earlier) - len(earlier) % 4 :]
    return chance.random() < (2 - min(2, sum(block))) / (4 - len(block))


def _gains(models: Sequence[str], pairs: Sequence[ModelPair], counts: Mapping[ModelPair, PairCount]) -> np.ndarray:
    """The information of one more vote on each pair, (len(pairs),)."""
    place = {model: i for i, model in enumerate(models)}
    m = len(models)
    shown, voted, points = np.zeros((m, m)), np.zeros((m, m)), np.zeros((m, m))
    for (first, second), count in counts.items():
        if first in place and second in place:
            i, j = place[first], place[second]
            shown[i, j] = shown[j, i] = count.shown
            voted[i, j] = voted[j, i] = count.voted
            points[i, j], points[j, i] = count.points, count.voted - count.points
    strength = np.zeros(m)
    for _ in range(_STEPS):
        chances = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (points - voted * chances).sum(axis=1) - _RIDGE * strength
        strength += np.clip(np.linalg.solve(_information(voted, chances), gradient), -1.0, 1.0)
    chances = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    # Pairs on somebody's screen count as votes, so that raters at the same time spread out.
    covariance = np.linalg.inv(_information(np.maximum(shown, voted), chances))
    at = np.array([[place[first], place[second]] for first, second in pairs])
    i, j = at[:, 0], at[:, 1]
    variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
    return np.log1p(chances[i, j] * (1 - chances[i, j]) * variance)


def _information(votes: np.ndarray, chances: np.ndarray) -> np.ndarray:
    weight = votes * chances * (1 - chances)
    return np.diag(weight.sum(axis=1) + _RIDGE) - weight
