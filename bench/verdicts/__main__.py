"""Verdicts with few voters: coverage of intervals, wrong calls of a reader who peeks, and the leaderboard's intervals.

    python -m bench.verdicts [--runs 2000] [--parts coverage,peeking,leaderboard] [--json]

It simulates votes whose truth is known, so the results say nothing about any real model. A line is printed for each
world that is worst in some respect; `--json` adds one JSON object with all of them. It takes some minutes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from bench.simulation_options import parse_simulation_options
from bench.verdicts.coverage import WorldCoverage, coverage
from bench.verdicts.leaderboards import BoardWorld, board_coverage
from bench.verdicts.optional_stopping import CallRates, call_rates
from evals.ratings.simulated_votes import Sharing, World

PARTS = ("coverage", "peeking", "leaderboard")
_VOTERS, _PROMPTS, _VOTER_SDS, _PROMPT_SDS = (3, 5, 8, 20, 60), (20, 40, 200), (0.0, 0.5, 1.0), (0.0, 1.0)
_SHARING: tuple[Sharing, ...] = ("even", "uneven", "one has 60 %")
_PEEKED = 400  # votes, read after each
BOARDS = (
    *(BoardWorld(4, voters, 40, 1.0, 1.0) for voters in (3, 5, 8, 20)),
    BoardWorld(2, 8, 40, 1.0, 0.0),
    BoardWorld(2, 60, 20, 0.5, 1.0),
    BoardWorld(4, 8, 40, 1.0, 1.0, one_has_60=True),
    BoardWorld(4, 3, 40, 1.0, 1.0, one_has_60=True),
)


def worlds(sharing: Sequence[Sharing] = _SHARING) -> list[World]:
    """Every combination of voters, prompts and their spreads."""
    spreads = list(product(_VOTER_SDS, _PROMPT_SDS, sharing))
    return [World(*sizes, *spread) for sizes in product(_VOTERS, _PROMPTS) for spread in spreads]


def _stopping_worlds() -> list[World]:
    """Every even world of 20 and 40 prompts; of those with 200, which take long, some, and one voter with 60 %."""
    chosen = [world for world in worlds(("even",)) if world.prompts < 200 or world.voters in (5, 20)]
    return [*chosen, *(world for world in worlds(("one has 60 %",)) if world.prompts == 200 and world.voters == 8)]


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts and prints the results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.verdicts", description=__doc__.splitlines()[0])
    options = parse_simulation_options(parser, PARTS, 2000, arguments)
    results: dict[str, Any] = {"runs": options.runs}
    if "coverage" in options.parts:
        coverages = [coverage(world, options.runs, seed) for seed, world in enumerate(worlds())]
        results |= _coverage_summary(coverages) | {"coverage": [result.to_json() for result in coverages]}
    if "peeking" in options.parts:
        peeked = [
            call_rates(world, options.runs, _PEEKED, "at random", seed) for seed, world in enumerate(_stopping_worlds())
        ]
        peeked += [
            call_rates(World(voters, 40, 1.0, 0.0), options.runs, _PEEKED, "voter by voter", 1000 + voters)
            for voters in _VOTERS
        ]
        results |= _peeking_summary(peeked) | {"peeking": [result.to_json() for result in peeked]}
    if "leaderboard" in options.parts:
        boards = [board_coverage(world, options.runs, seed) for seed, world in enumerate(BOARDS)]
        for board in boards:
            print(
                f"leaderboard: covered {board.covered:.1%}, {board.width:.2f} oracle widths, {board.world}", flush=True
            )
        results |= {
            "leaderboard_covered_least": min(board.covered for board in boards),
            "leaderboard": [board.to_json() for board in boards],
        }
    if options.json:
        print(json.dumps(results))
    return 0


def _coverage_summary(coverages: list[WorldCoverage]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for scope in ("these_people", "people_like_them"):
        rows = [(result.world, getattr(result, scope)) for result in coverages if getattr(result, scope)]
        for share in _SHARING:
            group = [row for row in rows if row[0].sharing == share]
            worst, widest = (
                min(group, key=lambda row: row[1].covered),
                max(group, key=lambda row: row[1].width),
            )
            widths = sorted(row[1].width for row in group)
            print(
                f"{scope}, {share}, {len(group)} worlds: covered at least {worst[1].covered:.1%} ({worst[0]}); oracle "
                f"widths: median {widths[len(widths) // 2]:.2f}, at most {widest[1].width:.2f} ({widest[0]})",
                flush=True,
            )
        summary[f"{scope}_covered_least"] = min(row[1].covered for row in rows)
        summary[f"{scope}_width_most"] = max(row[1].width for row in rows)
    return summary


def _peeking_summary(rates: list[CallRates]) -> dict[str, float]:
    def worst(name: str, value: Callable[[CallRates], float]) -> float:
        most = max(rates, key=value)
        print(
            f"{name}: at most {value(most):.1%} of runs ({most.arrival}, {most.votes} votes, {most.world})",
            flush=True,
        )
        return value(most)

    return {
        "wrong_calls_most": worst("wrong calls", lambda rates: rates.wrong),
        "own_wrong_calls_most": worst("wrong calls for these people", lambda rates: rates.own_wrong),
    }


if __name__ == "__main__":
    sys.exit(main())
