"""Coverage of the intervals of `parley eval`: paired differences of two models' shares, with and without clusters.

    python -m bench.scores [--runs 1500] [--json]

It simulates worlds whose truth is known. Each sample is right or wrong for both models by a threshold on correlated
normal draws; where samples come in groups, a group shares part of its luck. The last line is JSON with `--json`.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

from evals.scorers.score_summary import summarise_differences


@dataclass(frozen=True)
class World:
    """n samples in groups of `group`; the models are right with these shares, correlated; groups share `luck`."""

    n: int
    share_a: float
    share_b: float
    correlation: float
    group: int = 1
    luck: float = 0.0


@dataclass(frozen=True)
class Found:
    """How often the 95 % interval of the difference held the truth, and how wide it was."""

    world: World
    covered: float
    width: float


WORLDS = (
    *(World(n, 0.6, 0.7, rho) for n in (20, 50, 200) for rho in (0.0, 0.7)),
    *(World(n, 0.95, 0.95, 0.3) for n in (20, 50, 200)),
    *(World(n, 0.9, 0.98, 0.5) for n in (20, 50, 200)),
    World(200, 0.6, 0.7, 0.5, group=5, luck=0.5),
    World(400, 0.6, 0.7, 0.5, group=20, luck=0.5),
)


def coverage(world: World, runs: int, seed: int = 0) -> Found:
    """Simulates a world `runs` times. Each model has a luck of its own in a group: that is what clusters are for."""
    rng = np.random.default_rng(seed)
    cuts = [NormalDist().inv_cdf(share) for share in (world.share_a, world.share_b)]
    groups = np.arange(world.n) // world.group
    covered, widths = 0, []
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
        found = summarise_differences(
            (right[1] - right[0]).tolist(), [str(group) for group in groups], world.n, shares=True
        )
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= world.share_b - world.share_a <= found.high
        widths.append(found.high - found.low)
    return Found(world, covered / runs, float(np.mean(widths)))


def main(arguments: list[str] | None = None) -> int:
    """Runs every world and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.scores", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1500, help="simulations of each world")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    print(f"{'samples':>7} {'groups of':>9} {'shares':>11} {'correlation':>11} {'covered':>8} {'width':>6}")
    results = []
    for world in WORLDS:
        found = coverage(world, options.runs)
        results.append(asdict(found))
        print(
            f"{world.n:>7} {world.group:>9} {world.share_a:>5} {world.share_b:>5} {world.correlation:>11} "
            f"{found.covered:>8.1%} {found.width:>6.3f}"
        )
    if options.json:
        print(json.dumps({"coverage": results, "runs": options.runs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
