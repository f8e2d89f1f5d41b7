"""The command line of benchmarks that simulate votes: how many runs, which parts, and whether to print JSON."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SimulationOptions:
    """The options. `runs`: simulations per row or world; `parts`: those that are wanted."""

    runs: int
    parts: tuple[str, ...]
    json: bool


def parse_simulation_options(
    parser: argparse.ArgumentParser, parts: Sequence[str], runs: int, arguments: Sequence[str] | None
) -> SimulationOptions:
    """The options in `arguments`; None: those of the process. An unknown part ends it with a line and status 2."""
    parser.add_argument("--runs", type=int, default=runs, help="simulations per row or world")
    parser.add_argument("--parts", default=",".join(parts), help="comma-separated parts")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    chosen = tuple(options.parts.split(","))
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"{unknown[0]!r} is not a part: choose from {', '.join(parts)}")
    return SimulationOptions(options.runs, chosen, options.json)
