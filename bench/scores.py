"""Coverage of `parley eval`'s intervals of paired differences between two models' shares, with and without clusters.

    python -m bench.scores [--runs 1500] [--json]

It simulates samples whose truth is known. Each sample is right or wrong for each model by a threshold on correlated
normal draws; samples of one group share part of the variance. The last line is JSON with `--json`.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from bench.evals.coverage import Coverage
from evals.scorers.score_summary import summarise_differences


@dataclass(frozen=True)
class ScoreSimulation:
    """n samples in groups of `group`: the models' correct shares, their correlation, a group's share of variance."""

    n: int
    share_a: float
    share_b: float
    correlation: float
    group: int = 1
    luck: float = 0.0


@dataclass(frozen=True)
class ScoreCoverage:
    """The share of 95 % intervals of the difference that contain the truth, and their mean width."""

    world: ScoreSimulation
    covered: float
    width: float


WORLDS = (
    *(ScoreSimulation(n, 0.6, 0.7, rho) for n in (20, 50, 200) for rho in (0.0, 0.7)),
    *(ScoreSimulation(n, 0.95, 0.95, 0.3) for n in (20, 50, 200)),
    *(ScoreSimulation(n, 0.9, 0.98, 0.5) for n in (20, 50, 200)),
    ScoreSimulation(200, 0.6, 0.7, 0.5, group=5, luck=0.5),
    ScoreSimulation(400, 0.6, 0.7, 0.5, group=20, luck=0.5),
)


def coverage(world: ScoreSimulation, runs: int, seed: int = 0) -> ScoreCoverage:
    """Simulates a world `runs` times. Each model has a luck of its own in a group: that is what clusters are for."""
    rng = np.random.default_rng(seed)
    cuts = [NormalDist().inv_cdf(share) for share in (world.share_a, world.share_b)]
    groups = np.arange(world.n) // world.group
    intervals = Coverage()
    for _ in range(runs):
        common = rng.normal(size=world.n)
        right = []
        for cut in cuts:
            own = rng.normal(size=world.n)
            # Each part has its share of the variance, so that the draw stays standard normal.
            lucky = rng.normal(size=groups[-1] + 1)[groups]
            alone = np.sqrt(1 - world.luck) * (
                np.sqrt(world.correlation) * common + np.sqrt(1 - world.correlation) * own
            )
            right.append((alone + np.sqrt(world.luck) * lucky < cut).astype(float))
        summary = summarise_differences(
            (right[1] - right[0]).tolist(), [str(group) for group in groups], world.n, shares=True
        )
        assert summary.low is not None
        assert summary.high is not None
        intervals.add(summary.low, summary.high, world.share_b - world.share_a)
    return ScoreCoverage(world, intervals.covered, intervals.width)


def main(arguments: list[str] | None = None) -> int:
    """Runs every simulation and prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scores", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1500, help="simulations per row")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    print(f"{'samples':>7} {'groups of':>9} {'shares':>11} {'correlation':>11} {'covered':>8} {'width':>6}")
    results = []
    for world in WORLDS:
        result = coverage(world, options.runs)
        results.append(asdict(result))
        print(
            f"{world.n:>7} {world.group:>9} {world.share_a:>5} {world.share_b:>5} {world.correlation:>11} "
            f"{result.covered:>8.1%} {result.width:>6.3f}"
        )
    if options.json:
        print(json.dumps({"coverage": results, "runs": options.runs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
