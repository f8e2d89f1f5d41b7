"""Judges: coverage of prediction-powered intervals and of kappa's, and how often the rule of trust errs.

    python -m bench.judges [--runs 1000] [--json]

It simulates worlds whose truth is known, so it says nothing about any real judge. The last line is one JSON object with
`--json`; without it, a table.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from evals.judges.human_agreement import MARGIN, Choice, LabelledPair, human_agreement, kappa
from evals.judges.ppi import powered_mean

_CHOICES: tuple[Choice, ...] = ("a", "b", "tie")


@dataclass(frozen=True)
class World:
    """`labelled` prompts that people voted on, of `labelled + alone` that a judge of this `quality` has judged.

    `quality` is the chance that the judge sees what people see; else it guesses, and `bias` of that for b. A prompt
    has `per_prompt` pairs that share half of their luck.
    """

    labelled: int
    alone: int
    quality: float
    bias: float = 0.0
    per_prompt: int = 1


@dataclass(frozen=True)
class Coverage:
    """How often 95 % intervals held the truth, and how wide they were beside those from people's votes alone."""

    world: World
    covered: float
    covered_people: float
    width: float
    width_people: float
    runs: int


@dataclass(frozen=True)
class Kappas:
    """How often kappa's interval held the truth, of votes on so many prompts."""

    prompts: int
    per_prompt: int
    quality: float
    truth: float
    covered: float
    runs: int


@dataclass(frozen=True)
class Trust:
    """What the rule said of a judge whose agreement with people is `gap` away from theirs with each other."""

    prompts: int
    voters: int
    gap: float
    yes: float
    no: float
    runs: int


def ppi_coverage(world: World, runs: int, rng: np.random.Generator) -> Coverage:
    """The interval of `evals.judges.ppi` in one world; b truly wins 60 %, a tie in five as half."""
    n, k = world.labelled, world.per_prompt
    total = n + world.alone
    truth = 0.8 * 0.625 + 0.1
    held, held_people, widths, widths_people = 0, 0, [], []
    prompts = np.repeat(np.arange(total), k)
    for _ in range(runs):
        # A prompt's pairs share one draw half of the time, so that they are no independent observations.
        shared = np.repeat(rng.random(total), k)
        draw = np.where(rng.random(total * k) < (0.5 if k > 1 else 0), shared, rng.random(total * k))
        human = np.where(draw < 0.2, 0.5, np.where(draw < 0.2 + 0.8 * 0.625, 1.0, 0.0))
        guess = np.where(rng.random(total * k) < world.bias, 1.0, rng.choice([0.0, 0.5, 1.0], total * k))
        judge = np.where(rng.random(total * k) < world.quality, human, guess)
        cut = n * k
        found = powered_mean(
            human[:cut], judge[:cut], judge[cut:], prompts[:cut].tolist(), prompts[cut:].tolist()
        )  # fmt: skip
        held += found.low <= truth <= found.high
        held_people += found.people_low <= truth <= found.people_high
        widths.append(found.high - found.low)
        widths_people.append(found.people_high - found.people_low)
    width, width_people = float(np.mean(widths)), float(np.mean(widths_people))
    return Coverage(world, held / runs, held_people / runs, width, width_people, runs)


def opinions(prompts: int, per_prompt: int, voters: int, judge: float, people: float, rng: np.random.Generator):
    """Pairs whose truth each voter sees with the chance `people` and the judge with `judge`; else they guess."""
    made = []
    for prompt in range(prompts):
        for _ in range(per_prompt):
            truth = int(rng.integers(2))
            seen = [truth if rng.random() < people else int(rng.integers(3)) for _ in range(voters)]
            said = truth if rng.random() < judge else int(rng.integers(3))
            votes = tuple((f"v{i}", _CHOICES[one]) for i, one in enumerate(seen))
            made.append(LabelledPair(prompt, None, _CHOICES[said], votes))
    return made


def kappa_coverage(
    prompts: int, per_prompt: int, quality: float, runs: int, rng: np.random.Generator
) -> Kappas:  # fmt: skip
    """Kappa of judge and one voter, both right with the chance `quality`; truth from endless votes, by algebra."""
    right = quality + (1 - quality) / 3
    other, tie = (1 - quality) / 3, (1 - quality) / 3
    agree = right**2 + other**2 + tie**2
    side = (right + other) / 2
    chance = 2 * side**2 + tie**2
    truth = (agree - chance) / (1 - chance)
    held = 0
    for _ in range(runs):
        made = opinions(prompts, per_prompt, 1, quality, quality, rng)
        found = kappa([(one.judge, one.votes[0][1], one.prompt) for one in made])
        held += found is not None and found.low <= truth <= found.high
    return Kappas(prompts, per_prompt, quality, truth, held / runs, runs)


def trust(prompts: int, voters: int, judge: float, people: float, runs: int, rng: np.random.Generator) -> Trust:
    """What `evals.judges.human_agreement`'s rule says, over many sets of votes."""
    right = [chance + (1 - chance) / 3 for chance in (judge, people)]
    rest = [(1 - chance) / 3 for chance in (judge, people)]
    gap = right[0] * right[1] + 2 * rest[0] * rest[1] - right[1] ** 2 - 2 * rest[1] ** 2
    said = [human_agreement(opinions(prompts, 1, voters, judge, people, rng), None).trusted for _ in range(runs)]
    return Trust(prompts, voters, gap, said.count("yes") / runs, said.count("no") / runs, runs)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.judges", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="simulated sets of votes for each line")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    rng, began = np.random.default_rng(7), time.perf_counter()
    worlds = [
        World(20, 200, 0.0), World(20, 200, 0.6), World(20, 200, 0.9), World(20, 20, 0.6),
        World(50, 500, 0.6), World(50, 500, 0.6, bias=0.8), World(100, 1000, 0.8), World(200, 200, 0.6),
        World(30, 300, 0.6, per_prompt=3),
    ]  # fmt: skip
    means = [ppi_coverage(world, options.runs, rng) for world in worlds]
    few = max(options.runs // 4, 1)
    kappas = [kappa_coverage(*one, few, rng) for one in ((20, 2, 0.5), (50, 1, 0.5), (50, 1, 0.8), (100, 2, 0.5))]
    # A judge exactly at the margin, one as good as people, one far below.
    edge = _at_the_margin(0.8)
    rules = [trust(60, 3, one, 0.8, few, rng) for one in (edge, 0.8, 0.3)]
    rules += [trust(60, 2, one, 0.8, few, rng) for one in (edge, 0.8, 0.3)]
    result = {
        "ppi": [asdict(one) for one in means],
        "kappa": [asdict(one) for one in kappas],
        "trust": [asdict(one) for one in rules],
        "seconds": time.perf_counter() - began,
    }
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    for one in means:
        sys.stdout.write(
            f"{one.world}: {one.covered:.1%} covered (people alone {one.covered_people:.1%}), "
            f"width {one.width:.3f} beside {one.width_people:.3f}\n"
        )
    for one in kappas:
        sys.stdout.write(
            f"kappa {one.truth:.2f}, {one.prompts} prompts × {one.per_prompt}: {one.covered:.1%} covered\n"
        )
    for one in rules:
        sys.stdout.write(f"gap {one.gap:+.3f}, {one.voters} voters: yes {one.yes:.1%}, no {one.no:.1%}\n")
    return 0


def _at_the_margin(people: float) -> float:
    """The judge's chance to see the truth at which it agrees with people by MARGIN less than they do."""
    # Agreement of two with chances p and q is 1/3 + 2/3 pq: so the gap is 2/3 p (q - p).
    return people - MARGIN / (2 / 3 * people)


if __name__ == "__main__":
    sys.exit(main())
