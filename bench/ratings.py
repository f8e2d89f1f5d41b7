"""Ratings: seconds for 2 million votes, coverage of 95 % intervals, and error rates of a verdict read continuously.

    python -m bench.ratings [--runs 400] [--parts speed,coverage,peeking,power] [--json]

It simulates votes whose truth is known, so the results say nothing about any real model. `bench.evals.rating_speed`
measures the speed and compares it with arena-rank and evalica. It prints a table; `--json` adds one JSON object.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.evals.coverage import Coverage
from bench.evals.rating_speed import compared, timed
from bench.simulation_options import parse_simulation_options
from evals.ratings.bradley_terry import ELO, MEAN, Cluster, fit, rate
from evals.ratings.leaderboard import rank
from evals.ratings.verdict import State, compare, votes_for_power
from evals.ratings.verdict_states import Rule, scoped_verdict
from evals.ratings.voter_means import cells_of, voter_mean
from evals.votes.votes import Votes

_CONNECTED = np.zeros(64, dtype=int)  # every model in one connected component


@dataclass(frozen=True)
class VoteSimulation:
    """How votes are simulated. `taste`: the spread (log-odds) of each model's strength over the prompts."""

    models: int
    votes_per_model: int
    prompts: int
    taste: float = 0.0
    ties: float = 0.2
    spread: float = 0.5


@dataclass(frozen=True)
class RatingCoverage:
    """The share of intervals that contain the truth, over all models of all runs, and their mean width in Elo."""

    world: VoteSimulation
    cluster: str | None
    covered: float
    width: float
    runs: int


def draw(world: VoteSimulation, rng: np.random.Generator) -> tuple[Votes, np.ndarray]:
    """Simulated votes, and the true strengths (log-odds, mean 0) that infinitely many votes would give."""
    m, n = world.models, world.models * world.votes_per_model // 2
    strength = rng.normal(0, world.spread, m)
    taste = rng.normal(0, world.taste, (world.prompts, m))
    # Pairs rotate as in the arena, so that the graph is connected; prompts rotate too.
    first, second = np.triu_indices(m, 1)
    order = rng.permutation(len(first))[np.arange(n) % len(first)]
    first, second = first[order], second[order]
    prompt = rng.permutation(n) % world.prompts
    edge = strength[first] + taste[prompt, first] - strength[second] - taste[prompt, second]
    won = rng.random(n) < 1 / (1 + np.exp(-edge))
    score = np.where(rng.random(n) < world.ties, 0.5, won.astype(float))
    models = tuple(f"m{i}" for i in range(m))
    return Votes(models, first, second, score, prompt, np.arange(n)), _truth(strength, world)


def _truth(strength: np.ndarray, world: VoteSimulation) -> np.ndarray:
    """The strengths that fit the expected wins over all possible prompts."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    difference = strength[:, None] - strength[None, :]
    shifted = difference[..., None] + nodes * world.taste * np.sqrt(2)
    chance = (1 / (1 + np.exp(-shifted))) @ (weights / weights.sum())
    expected = (1 - world.ties) * chance + world.ties / 2
    np.fill_diagonal(expected, 0.0)
    return fit(expected, _CONNECTED[: world.models])


def coverage(world: VoteSimulation, cluster: Cluster, runs: int, seed: int = 0) -> RatingCoverage:
    """Simulates `runs` sets of votes and counts how often each model's interval contains its true rating."""
    rng = np.random.default_rng(seed)
    intervals = Coverage()
    for _ in range(runs):
        votes, truth = draw(world, rng)
        rated = rate(votes, cluster=cluster)
        if not rated.connected:
            continue
        intervals.add(rated.low, rated.high, MEAN + ELO * truth)
    return RatingCoverage(world, cluster, intervals.covered, intervals.width, len(intervals.hits))


@dataclass(frozen=True)
class Power:
    """The decisive votes that the method's table requires, and the share of tests on them that find the difference."""

    win_rate: float
    votes: int
    found: float


@dataclass(frozen=True)
class Duel:
    """Two models: the first one's win rate on a typical prompt, and the spread (log-odds) over the prompts."""

    win_rate: float
    taste: float
    prompts: int
    votes: int = 400


def peeking(duel: Duel, runs: int, seed: int = 0) -> dict[State, float]:
    """The share of each final state, if the verdict is read after every vote and the first decision counts."""
    prompts, votes = duel.prompts, duel.votes
    rng = np.random.default_rng(seed)
    ended: dict[State, float] = {
        "better": 0.0, "worse": 0.0, "no difference worth having": 0.0, "at least as good": 0.0,
        "not enough evidence": 0.0,
    }  # fmt: skip
    for _ in range(runs):
        edge = np.log(duel.win_rate / (1 - duel.win_rate)) + rng.normal(0, duel.taste, prompts)
        prompt = np.concatenate([rng.permutation(prompts) for _ in range(votes // prompts + 1)])[:votes]
        won = (rng.random(votes) < 1 / (1 + np.exp(-edge[prompt]))).astype(float)
        score = np.where(rng.random(votes) < 0.2, 0.5, won)
        state: State = "not enough evidence"
        for n in range(1, votes + 1):
            # What `compare` says, without its forecast and its results by voter.
            cells = cells_of(score[:n], prompt[:n], np.arange(n))
            state = scoped_verdict(voter_mean(cells), n, "people like them", Rule()).state
            if state in ("better", "worse", "no difference worth having"):
                break
        ended[state] += 1 / runs
    return ended


def power(runs: int = 20_000, seed: int = 0) -> list[Power]:
    """Simulates what the method's table promises: 80 % of fixed-size two-sided tests find the true win rate."""
    rng = np.random.default_rng(seed)
    powers = []
    for rate_ in (0.55, 0.6, 0.65, 0.7):
        n = votes_for_power(rate_)
        wins = rng.binomial(n, rate_, runs)
        powers.append(Power(rate_, n, float((np.abs(wins - n / 2) > 1.959964 * np.sqrt(n) / 2).mean())))
    return powers


def decided_on_too_little(runs: int, seed: int = 0) -> float:
    """The share of verdicts and leaderboards that decide on 29 votes or 19 prompts; it must be 0."""
    rng = np.random.default_rng(seed)
    decided = 0
    for run in range(runs):
        n, prompts = (29, 29) if run % 2 else (400, 19)
        score = (rng.random(n) < 0.95).astype(float)
        zeros = np.zeros(n, dtype=int)
        votes = Votes(("a", "b"), zeros, zeros + 1, score, np.arange(n) % prompts, np.arange(n))
        decided += compare(votes, "a", "b").state != "not enough evidence" or rank(votes).enough
    return decided / runs


WORLDS: tuple[tuple[VoteSimulation, Cluster], ...] = (
    (VoteSimulation(2, 30, 20), None),
    (VoteSimulation(2, 30, 20), "prompt"),
    (VoteSimulation(2, 30, 20, taste=1.0), "prompt"),
    (VoteSimulation(2, 200, 20, taste=1.0), "prompt"),
    (VoteSimulation(2, 200, 20, taste=1.0), None),
    (VoteSimulation(4, 30, 20), None),
    (VoteSimulation(4, 30, 20), "prompt"),
    (VoteSimulation(4, 100, 40, taste=1.0), "prompt"),
    (VoteSimulation(10, 30, 20), "prompt"),
    (VoteSimulation(10, 100, 50, taste=0.7), "prompt"),
    (VoteSimulation(50, 30, 20), None),
    (VoteSimulation(50, 30, 20), "prompt"),
    (VoteSimulation(2, 30, 20, taste=0.5), "prompt"),
    (VoteSimulation(2, 30, 30, ties=0.0, spread=1.0), "prompt"),
    (VoteSimulation(3, 30, 20), "prompt"),
    (VoteSimulation(3, 30, 20, taste=1.0), "prompt"),
    (VoteSimulation(4, 30, 20, ties=0.0), "prompt"),
    (VoteSimulation(4, 30, 20, ties=0.6), "prompt"),
    (VoteSimulation(4, 30, 20, spread=1.2), "prompt"),
    (VoteSimulation(5, 30, 20, taste=0.5), "prompt"),
    (VoteSimulation(10, 30, 20, taste=1.0), "prompt"),
    (VoteSimulation(20, 30, 20), None),
    (VoteSimulation(20, 30, 20, taste=0.7), "prompt"),
    (VoteSimulation(50, 30, 20, taste=0.7), "prompt"),
    (VoteSimulation(50, 100, 100, taste=0.7), "prompt"),
)
PARTS = ("speed", "coverage", "peeking", "power")


DUELS = (
    Duel(0.5, 0.0, 400),
    Duel(0.5, 0.0, 40),
    Duel(0.5, 1.4, 40),
    Duel(0.5, 1.4, 20),
    Duel(0.6, 0.0, 100),
    Duel(0.65, 0.0, 100),
)


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts and prints the results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.ratings", description=__doc__.splitlines()[0])
    options = parse_simulation_options(parser, PARTS, 400, arguments)
    results: dict[str, Any] = timed() | compared() if "speed" in options.parts else {}
    for key, value in results.items():
        print(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    if "coverage" in options.parts:
        results["coverage"] = print_coverage(options.runs)
    if "peeking" in options.parts:
        results["peeking"] = print_peeking(options.runs)
    if "power" in options.parts:
        powers, too_little = power(), decided_on_too_little(min(options.runs, 100))
        for row in powers:
            print(f"{row.win_rate:.0%}: {row.votes} decisive votes find it in {row.found:.1%} of tests")
        print(f"decided on 29 votes or 19 prompts: {too_little:.0%}")
        results |= {"power": [asdict(row) for row in powers], "decided_on_too_little": too_little}
    if options.json:
        print(json.dumps(results))
    return 0


def print_coverage(runs: int) -> list[dict[str, Any]]:
    """Measures and prints the coverage of every row of WORLDS."""
    results = []
    print(
        f"{'models':>6} {'votes each':>10} {'prompts':>7} {'taste':>5} {'ties':>4} {'spread':>6} {'clustered':>9} "
        f"{'covered':>8} {'± Elo':>6}"
    )
    for world, cluster in WORLDS:
        result = coverage(world, cluster, runs)
        results.append(asdict(result))
        print(
            f"{world.models:>6} {world.votes_per_model:>10} {world.prompts:>7} {world.taste:>5} {world.ties:>4} "
            f"{world.spread:>6} {cluster or 'no':>9} {result.covered:>8.1%} {result.width / 2:>6.0f}",
            flush=True,
        )
    return results


def print_peeking(runs: int) -> list[dict[str, Any]]:
    """Measures and prints the final states of every duel."""
    peeks = []
    print(f"\n{'win rate':>8} {'prompts':>7} {'taste':>5} {'better':>7} {'worse':>7}   (400 votes, read after each)")
    for duel in DUELS:
        ended = peeking(duel, runs)
        peeks.append({"duel": asdict(duel), "ended": ended, "runs": runs})
        print(
            f"{duel.win_rate:>8} {duel.prompts:>7} {duel.taste:>5} {ended['better']:>7.1%} {ended['worse']:>7.1%}",
            flush=True,
        )
    return peeks


if __name__ == "__main__":
    sys.exit(main())
