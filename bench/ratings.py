"""Ratings: seconds for 2 million votes, coverage of 95 % intervals, errors of a verdict that is read all the time.

    python -m bench.ratings [--runs 400] [--parts speed,coverage,peeking,power] [--json]

It simulates worlds whose truth is known, so it says nothing about any real model. The speed, and how it compares with
arena-rank and evalica, is `bench.rating_speed`'s. The last line is one JSON object with `--json`; without it, a table.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.rating_speed import compared, timed
from evals.ratings.bradley_terry import ELO, MEAN, Cluster, fit, rate
from evals.ratings.leaderboard import rank
from evals.ratings.verdict import State, compare, votes_for_power
from evals.votes.votes import Votes

_ALONE = np.zeros(64, dtype=int)  # every model in one connected part


@dataclass(frozen=True)
class World:
    """A way in which votes may come about. `taste` is the spread (log-odds) of each model's fortune by prompt."""

    models: int
    votes_per_model: int
    prompts: int
    taste: float = 0.0
    ties: float = 0.2
    spread: float = 0.5


@dataclass(frozen=True)
class Coverage:
    """How often intervals held the truth, over all models of all runs, and how wide they were, in Elo."""

    world: World
    cluster: str | None
    covered: float
    width: float
    runs: int


def draw(world: World, rng: np.random.Generator) -> tuple[Votes, np.ndarray]:
    """Votes of one world, and its true strengths (log-odds, mean 0): what endless votes would be rated."""
    m, n = world.models, world.models * world.votes_per_model // 2
    strength = rng.normal(0, world.spread, m)
    taste = rng.normal(0, world.taste, (world.prompts, m))
    # Pairs in rotation, as the arena shows them, so that the graph is connected; prompts in rotation too.
    first, second = np.triu_indices(m, 1)
    order = rng.permutation(len(first))[np.arange(n) % len(first)]
    first, second = first[order], second[order]
    prompt = rng.permutation(n) % world.prompts
    edge = strength[first] + taste[prompt, first] - strength[second] - taste[prompt, second]
    won = rng.random(n) < 1 / (1 + np.exp(-edge))
    score = np.where(rng.random(n) < world.ties, 0.5, won.astype(float))
    models = tuple(f"m{i}" for i in range(m))
    return Votes(models, first, second, score, prompt, np.arange(n)), _truth(strength, world)


def _truth(strength: np.ndarray, world: World) -> np.ndarray:
    """The strengths that fit the expected wins, over the tastes of all possible prompts."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    difference = strength[:, None] - strength[None, :]
    shifted = difference[..., None] + nodes * world.taste * np.sqrt(2)
    chance = (1 / (1 + np.exp(-shifted))) @ (weights / weights.sum())
    expected = (1 - world.ties) * chance + world.ties / 2
    np.fill_diagonal(expected, 0.0)
    return fit(expected, _ALONE[: world.models])


def coverage(world: World, cluster: Cluster, runs: int, seed: int = 0) -> Coverage:
    """Simulates a world `runs` times and counts how often each model's interval holds its truth."""
    rng = np.random.default_rng(seed)
    covered, width = [], []
    for _ in range(runs):
        votes, truth = draw(world, rng)
        rated = rate(votes, cluster=cluster)
        if not rated.connected:
            continue
        elo = MEAN + ELO * truth
        covered.append(((rated.low <= elo) & (elo <= rated.high)).mean())
        width.append((rated.high - rated.low).mean())
    return Coverage(world, cluster, float(np.mean(covered)), float(np.mean(width)), len(covered))


@dataclass(frozen=True)
class Power:
    """How many decisive votes the method's table asks for, and the share of tests on them that find the difference."""

    win_rate: float
    votes: int
    found: float


@dataclass(frozen=True)
class Duel:
    """Two models that meet: the first one's win rate on a typical prompt, and the spread (log-odds) by prompt."""

    win_rate: float
    taste: float
    prompts: int
    votes: int = 400


def peeking(duel: Duel, runs: int, seed: int = 0) -> dict[State, float]:
    """How often a verdict that is read after every vote, and acted on at once, ends in each state."""
    prompts, votes = duel.prompts, duel.votes
    rng = np.random.default_rng(seed)
    ended: dict[State, float] = {
        "better": 0.0, "worse": 0.0, "no difference worth having": 0.0, "not enough evidence": 0.0,
    }  # fmt: skip
    for _ in range(runs):
        edge = np.log(duel.win_rate / (1 - duel.win_rate)) + rng.normal(0, duel.taste, prompts)
        prompt = np.concatenate([rng.permutation(prompts) for _ in range(votes // prompts + 1)])[:votes]
        won = (rng.random(votes) < 1 / (1 + np.exp(-edge[prompt]))).astype(float)
        score = np.where(rng.random(votes) < 0.2, 0.5, won)
        state: State = "not enough evidence"
        for n in range(1, votes + 1):
            seen = np.zeros(n, dtype=int)
            state = compare(Votes(("a", "b"), seen, seen + 1, score[:n], prompt[:n], np.arange(n)), "a", "b").state
            if state != "not enough evidence":
                break
        ended[state] += 1 / runs
    return ended


def power(runs: int = 20_000, seed: int = 0) -> list[Power]:
    """What the method's table promises, by simulation: 80 % of fixed-size two-sided tests find the true win rate."""
    rng = np.random.default_rng(seed)
    found = []
    for rate_ in (0.55, 0.6, 0.65, 0.7):
        n = votes_for_power(rate_)
        wins = rng.binomial(n, rate_, runs)
        found.append(Power(rate_, n, float((np.abs(wins - n / 2) > 1.959964 * np.sqrt(n) / 2).mean())))
    return found


def decided_on_too_little(runs: int, seed: int = 0) -> float:
    """The share of verdicts and leaderboards that decide on 29 votes, or on 19 prompts, however clear: none may."""
    rng = np.random.default_rng(seed)
    decided = 0
    for run in range(runs):
        n, prompts = (29, 29) if run % 2 else (400, 19)
        score = (rng.random(n) < 0.95).astype(float)
        zeros = np.zeros(n, dtype=int)
        votes = Votes(("a", "b"), zeros, zeros + 1, score, np.arange(n) % prompts, np.arange(n))
        decided += compare(votes, "a", "b").state != "not enough evidence" or rank(votes).enough
    return decided / runs


WORLDS: tuple[tuple[World, Cluster], ...] = (
    (World(2, 30, 20), None),
    (World(2, 30, 20), "prompt"),
    (World(2, 30, 20, taste=1.0), "prompt"),
    (World(2, 200, 20, taste=1.0), "prompt"),
    (World(2, 200, 20, taste=1.0), None),
    (World(4, 30, 20), None),
    (World(4, 30, 20), "prompt"),
    (World(4, 100, 40, taste=1.0), "prompt"),
    (World(10, 30, 20), "prompt"),
    (World(10, 100, 50, taste=0.7), "prompt"),
    (World(50, 30, 20), None),
    (World(50, 30, 20), "prompt"),
    (World(2, 30, 20, taste=0.5), "prompt"),
    (World(2, 30, 30, ties=0.0, spread=1.0), "prompt"),
    (World(3, 30, 20), "prompt"),
    (World(3, 30, 20, taste=1.0), "prompt"),
    (World(4, 30, 20, ties=0.0), "prompt"),
    (World(4, 30, 20, ties=0.6), "prompt"),
    (World(4, 30, 20, spread=1.2), "prompt"),
    (World(5, 30, 20, taste=0.5), "prompt"),
    (World(10, 30, 20, taste=1.0), "prompt"),
    (World(20, 30, 20), None),
    (World(20, 30, 20, taste=0.7), "prompt"),
    (World(50, 30, 20, taste=0.7), "prompt"),
    (World(50, 100, 100, taste=0.7), "prompt"),
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
    """Runs the parts and prints them."""
    parser = argparse.ArgumentParser(prog="python -m bench.ratings", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="simulated worlds of each kind")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if strangers := sorted(set(parts) - set(PARTS)):
        parser.error(f"{strangers[0]!r} is no part: there are {', '.join(PARTS)}")
    found: dict[str, Any] = timed() | compared() if "speed" in parts else {}
    for key, value in found.items():
        print(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    if "coverage" in parts:
        found["coverage"] = covered(options.runs)
    if "peeking" in parts:
        found["peeking"] = peeked(options.runs)
    if "power" in parts:
        powers, too_little = power(), decided_on_too_little(min(options.runs, 100))
        for row in powers:
            print(f"{row.win_rate:.0%}: {row.votes} decisive votes find it in {row.found:.1%}")
        print(f"decided on 29 votes or 19 prompts: {too_little:.0%}")
        found |= {"power": [asdict(row) for row in powers], "decided_on_too_little": too_little}
    if options.json:
        print(json.dumps(found))
    return 0


def covered(runs: int) -> list[dict[str, Any]]:
    """Every world's coverage, printed as it is found."""
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


def peeked(runs: int) -> list[dict[str, Any]]:
    """Every duel's end, printed as it is found."""
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
