"""Judges: coverage of prediction-powered intervals and of kappa's intervals, and error rates of the trust rule.

    python -m bench.judges [--runs 1000] [--json]

It simulates votes and verdicts whose truth is known, so the results say nothing about any real judge. It prints a
table, or one JSON object with `--json`.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from bench.evals.coverage import Coverage
from evals.judges.human_agreement import MARGIN, Choice, LabelledPair, human_agreement, kappa
from evals.judges.ppi import powered_mean

_CHOICES: tuple[Choice, ...] = ("a", "b", "tie")


@dataclass(frozen=True)
class JudgeSimulation:
    """`labelled` prompts have people's votes; a judge has judged these and `alone` more prompts.

    With probability `quality` the judge agrees with people; otherwise it guesses, a share `bias` of that for b. Each
    prompt has `per_prompt` pairs that share half of their randomness.
    """

    labelled: int
    alone: int
    quality: float
    bias: float = 0.0
    per_prompt: int = 1


@dataclass(frozen=True)
class PowerCoverage:
    """Coverage and mean width of 95 % intervals, and those of intervals from people's votes alone."""

    world: JudgeSimulation
    covered: float
    covered_people: float
    width: float
    width_people: float
    runs: int


@dataclass(frozen=True)
class Kappas:
    """The share of kappa's intervals that contain the truth."""

    prompts: int
    per_prompt: int
    quality: float
    truth: float
    covered: float
    runs: int


@dataclass(frozen=True)
class Trust:
    """The trust rule's answers for a judge whose agreement with people differs by `gap` from people's own."""

    prompts: int
    voters: int
    gap: float
    yes: float
    no: float
    runs: int


def ppi_coverage(world: JudgeSimulation, runs: int, rng: np.random.Generator) -> PowerCoverage:
    """Coverage of `evals.judges.ppi`'s interval. The truth: b wins 60 %, one pair in five is a tie and counts half."""
    n, k = world.labelled, world.per_prompt
    total = n + world.alone
    truth = 0.8 * 0.625 + 0.1
    powered, people = Coverage(), Coverage()
    prompts = np.repeat(np.arange(total), k)
    for _ in range(runs):
        # A prompt's pairs share one draw half of the time, so they are not independent.
        shared = np.repeat(rng.random(total), k)
        draw = np.where(rng.random(total * k) < (0.5 if k > 1 else 0), shared, rng.random(total * k))
        human = np.where(draw < 0.2, 0.5, np.where(draw < 0.2 + 0.8 * 0.625, 1.0, 0.0))
        guess = np.where(rng.random(total * k) < world.bias, 1.0, rng.choice([0.0, 0.5, 1.0], total * k))
        judge = np.where(rng.random(total * k) < world.quality, human, guess)
        cut = n * k
        interval = powered_mean(
            human[:cut], judge[:cut], judge[cut:], prompts[:cut].tolist(), prompts[cut:].tolist()
        )  # fmt: skip
        powered.add(interval.low, interval.high, truth)
        people.add(interval.people_low, interval.people_high, truth)
    return PowerCoverage(world, powered.covered, people.covered, powered.width, people.width, runs)


def simulate_pairs(
    prompts: int, per_prompt: int, voters: int, judge: float, people: float, rng: np.random.Generator
) -> list[LabelledPair]:
    """Pairs whose truth each voter sees with probability `people` and the judge with `judge`; otherwise they guess."""
    made = []
    for prompt in range(prompts):
        for _ in range(per_prompt):
            truth = int(rng.integers(2))
            choices = [truth if rng.random() < people else int(rng.integers(3)) for _ in range(voters)]
            verdict = truth if rng.random() < judge else int(rng.integers(3))
            votes = tuple((f"v{i}", _CHOICES[choice]) for i, choice in enumerate(choices))
            made.append(LabelledPair(prompt, None, _CHOICES[verdict], votes))
    return made


def kappa_coverage(
    prompts: int, per_prompt: int, quality: float, runs: int, rng: np.random.Generator
) -> Kappas:  # fmt: skip
    """Kappa of a judge and one voter, both right with probability `quality`; the true kappa is derived analytically."""
    right = quality + (1 - quality) / 3
    other, tie = (1 - quality) / 3, (1 - quality) / 3
    agree = right**2 + other**2 + tie**2
    side = (right + other) / 2
    chance = 2 * side**2 + tie**2
    truth = (agree - chance) / (1 - chance)
    intervals = Coverage()
    for _ in range(runs):
        made = simulate_pairs(prompts, per_prompt, 1, quality, quality, rng)
        interval = kappa([(pair.judge, pair.votes[0][1], pair.prompt) for pair in made])
        if interval is not None:
            intervals.add(interval.low, interval.high, truth)
    return Kappas(prompts, per_prompt, quality, truth, sum(intervals.hits) / runs, runs)


def trust(prompts: int, voters: int, judge: float, people: float, runs: int, rng: np.random.Generator) -> Trust:
    """The answers of `evals.judges.human_agreement`'s rule over `runs` simulated sets of votes."""
    right = [chance + (1 - chance) / 3 for chance in (judge, people)]
    rest = [(1 - chance) / 3 for chance in (judge, people)]
    gap = right[0] * right[1] + 2 * rest[0] * rest[1] - right[1] ** 2 - 2 * rest[1] ** 2
    answers = [
        human_agreement(simulate_pairs(prompts, 1, voters, judge, people, rng), None).trusted for _ in range(runs)
    ]
    return Trust(prompts, voters, gap, answers.count("yes") / runs, answers.count("no") / runs, runs)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.judges", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated sets of votes per row")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    rng, began = np.random.default_rng(7), time.perf_counter()
    simulations = [
        JudgeSimulation(20, 200, 0.0), JudgeSimulation(20, 200, 0.6), JudgeSimulation(20, 200, 0.9),
        JudgeSimulation(20, 20, 0.6), JudgeSimulation(50, 500, 0.6), JudgeSimulation(50, 500, 0.6, bias=0.8),
        JudgeSimulation(100, 1000, 0.8), JudgeSimulation(200, 200, 0.6), JudgeSimulation(30, 300, 0.6, per_prompt=3),
    ]  # fmt: skip
    means = [ppi_coverage(world, options.runs, rng) for world in simulations]
    few = max(options.runs // 4, 1)
    kappas = [kappa_coverage(*row, few, rng) for row in ((20, 2, 0.5), (50, 1, 0.5), (50, 1, 0.8), (100, 2, 0.5))]
    # A judge at the margin, row as good as people, row far below.
    edge = _at_the_margin(0.8)
    rules = [trust(60, 3, row, 0.8, few, rng) for row in (edge, 0.8, 0.3)]
    rules += [trust(60, 2, row, 0.8, few, rng) for row in (edge, 0.8, 0.3)]
    result = {
        "ppi": [asdict(row) for row in means],
        "kappa": [asdict(row) for row in kappas],
        "trust": [asdict(row) for row in rules],
        "seconds": time.perf_counter() - began,
    }
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    for row in means:
        sys.stdout.write(
            f"{row.world}: {row.covered:.1%} covered (people alone {row.covered_people:.1%}), "
            f"width {row.width:.3f} compared with {row.width_people:.3f}\n"
        )
    for row in kappas:
        sys.stdout.write(
            f"kappa {row.truth:.2f}, {row.prompts} prompts × {row.per_prompt}: {row.covered:.1%} covered\n"
        )
    for row in rules:
        sys.stdout.write(f"gap {row.gap:+.3f}, {row.voters} voters: yes {row.yes:.1%}, no {row.no:.1%}\n")
    return 0


def _at_the_margin(people: float) -> float:
    """The judge's probability of seeing the truth at which it agrees with people MARGIN less than they do."""
    # Two voters with probabilities p and q agree with 1/3 + 2/3 pq, so the gap is 2/3 p (q - p).
    return people - MARGIN / (2 / 3 * people)


if __name__ == "__main__":
    sys.exit(main())
