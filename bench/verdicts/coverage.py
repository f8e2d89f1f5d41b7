"""How often intervals that are read once contain the truth, for both scopes, and their width beside an oracle's."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.ratings.simulated_votes import World, draw
from evals.ratings.voter_means import MIN_VOTERS, VoterMean, from_sums, interval

_NORMAL = 1.959964


@dataclass(frozen=True)
class ScopeCoverage:
    """The share of 95 % intervals that contain the truth, and their mean width in widths of an oracle's.

    The oracle knows the standard deviation of the estimate and takes 1.96 of it to each side. `wrong` is the share of
    90 % intervals that lie wholly above the truth: how often a model that is worse by exactly the margin would be
    called "at least as good".
    """

    covered: float
    width: float
    wrong: float


@dataclass(frozen=True)
class WorldCoverage:
    """One world's coverage; `people_like_them` is None under five voters."""

    world: World
    runs: int
    these_people: ScopeCoverage
    people_like_them: ScopeCoverage | None

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return asdict(self)


def coverage(world: World, runs: int, seed: int = 0) -> WorldCoverage:
    """Simulates that many runs of a world, each read once."""
    blocks = list(draw(world, runs, seed))
    found = [from_sums(tables.sums()) for tables in blocks]
    mean = VoterMean(
        *(np.concatenate([np.atleast_1d(getattr(one, name)) for one in found]) for name in VoterMean.__annotations__)
    )
    own = np.concatenate([tables.own_truth for tables in blocks])
    return WorldCoverage(
        world=world,
        runs=runs,
        these_people=_scope(mean, own, "these people"),
        people_like_them=_scope(mean, np.full(runs, world.truth), "people like them")
        if int(np.min(mean.voters)) >= MIN_VOTERS
        else None,
    )


def _scope(mean: VoterMean, truth: np.ndarray, scope: Any) -> ScopeCoverage:
    low, high = interval(mean, scope)
    oracle = 2 * _NORMAL * float(np.sqrt(((mean.mean - truth) ** 2).mean()))
    return ScopeCoverage(
        covered=float(((low <= truth) & (truth <= high)).mean()),
        width=float((high - low).mean()) / oracle,
        wrong=float((interval(mean, scope, 0.9)[0] > truth).mean()),
    )
