"""Breaks everything and tells what clients saw: upstreams in every way, and every process of a running Parley.

    python -m bench.faults [--part path|kills] [--rounds 20] [--quick] [--json]

Part «path»: a fault proxy on real sockets between the gateway and its upstreams, each fault asked as a stream and not,
of an engine and of a hosted model, by the OpenAI SDK and by a client that reads bytes; `--rounds` requests each.
Part «kills»: SIGKILL and SIGSTOP to the processes of a real `parley up` with a vLLM engine, a page and a worker, under
load; `--rounds` blows in all. It ends with status 1 where something was not as it should be, and says what.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench import faults_kills, faults_path
from bench.faults_house import GatewayHouse, Held
from bench.faults_kills import Hit, Kills
from bench.faults_path import Report, Row

_SILENCE_S = 1.0
# A breaker that has opened rests for 5 s, and that after each case: so several beside one another.
_AT_ONCE = 8
_QUICK_ROUNDS, _QUICK_BLOWS = 3, 4
# Idle connections are kept for 15 s, aiohttp looks for them as often: by then only what leaks is there.
_SETTLED_S = 35.0
# Memory keeps its peak, and each model some series of figures: a leak is what more requests to the same models add.
_AGAIN = 8
_LEAK_MIB, _LEAK_SOCKETS = 8.0, 2


@dataclass(frozen=True)
class Leaks:
    """What the gateway's process held after the faults, and after thousands of requests more to the same models."""

    before: Held
    after: Held

    @property
    def complaints(self) -> list[str]:
        """What it holds too much of."""
        grown = self.after.memory_mib - self.before.memory_mib
        more = self.after.sockets - self.before.sockets
        found = [f"the gateway's memory grew by {grown:.0f} MiB"] * (grown > _LEAK_MIB)
        found += [f"the gateway holds {more} sockets more"] * (more > _LEAK_SOCKETS)
        return found + [f"{self.after.in_flight} requests are in flight for ever"] * (self.after.in_flight != 0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("path", "kills"), help="only this part")
    parser.add_argument("--rounds", type=int, default=20, help="requests of each fault, and blows in all")
    parser.add_argument("--quick", action="store_true", help="3 requests of each fault, 4 blows")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    asked = parser.parse_args(arguments)
    console = Console(stderr=True, quiet=asked.json)
    began = time.monotonic()
    found: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "cores": len(os.sched_getaffinity(0))}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="parley-faults-") as folder:
        if asked.part != "kills":
            report, leaks = _path(Path(folder) / "path", _QUICK_ROUNDS if asked.quick else asked.rounds)
            failures += report.complaints + leaks.complaints
            found |= {"path": asdict(report), "leaks": asdict(leaks)}
            console.print(_path_table(report.rows))
            console.print(_leak_line(report, leaks))
        if asked.part != "path":
            chosen = faults_kills.blows(_QUICK_BLOWS if asked.quick else asked.rounds, quick=asked.quick)
            kills = _kills(Path(folder) / "kills", chosen, console)
            failures += kills.complaints
            found |= {"kills": asdict(kills)}
            console.print(_kills_table(kills))
    found |= {"failures": failures, "seconds": round(time.monotonic() - began, 1)}
    for failure in failures:
        console.print(f"[red]not as it should be:[/] {failure}", highlight=False)
    console.print("Everything was as it should be." if not failures else f"{len(failures)} failures.")
    print(json.dumps(found))
    return int(bool(failures))


def _path(home: Path, rounds: int) -> tuple[Report, Leaks]:
    from tests.serve.paced_upstream import PacedUpstream

    cases = faults_path.cases()
    with (
        PacedUpstream(chunks=8, pace_s=0.01) as upstream,
        GatewayHouse(home, **faults_path.patience(_SILENCE_S)) as house,
    ):
        ask = faults_path.Once(house, upstream.address, silence_s=_SILENCE_S)
        report = asyncio.run(ask.run(cases, rounds=rounds, at_once=_AT_ONCE))
        time.sleep(_SETTLED_S)
        before = house.held()
        asyncio.run(ask.again(_AGAIN))
        time.sleep(_SETTLED_S)
        return report, Leaks(before, house.held())


def _kills(home: Path, chosen: Sequence[faults_kills.Blow], console: Console) -> Kills:
    from models.demo import catalogue
    from models.settings import load_settings
    from tests.serve.paced_upstream import PacedUpstream
    from tests.stack import free_ports

    def tell(hit: Hit) -> None:
        wrong = f" [red]{'; '.join(hit.complaints)}[/]" if hit.complaints else ""
        console.print(f"SIG{hit.sent} {hit.target}: back after {hit.back_s:.1f} s{wrong}", highlight=False)

    port, page_port = free_ports(2)
    settings = load_settings(home=home, port=port, page_port=page_port, device="cpu", cpu_kv_cache_gib=0.25)
    with PacedUpstream(chunks=48, pace_s=0.02) as upstream:
        house = faults_kills.House(settings, catalogue()[0].weights, f"{upstream.address}/v1")
        return faults_kills.run(house, chosen, tell)


def _path_table(rows: Sequence[Row]) -> Table:
    """One line a fault and a route; the four ways to ask stand together. `asked`: most often for one request."""
    table = Table(title="Faults of upstreams", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("fault", "route", "good", "slowest", "within", "asked", "well again"):
        table.add_column(name, justify="left" if name in ("fault", "route") else "right", no_wrap=name == "fault")
    for (fault, route), several in groupby(rows, lambda row: (row.fault, row.route)):
        found = list(several)
        good, all_of_them = sum(row.good for row in found), sum(row.rounds for row in found)
        style = "green" if not any(row.complaints for row in found) else "red"
        table.add_row(
            fault, route, f"[{style}]{good}/{all_of_them}[/]", f"{max(row.slowest_s for row in found):.1f} s",
            f"{found[0].within_s:.1f} s", str(max(row.most_asked for row in found)),
            f"{max(row.recovered_s for row in found):.1f} s",
        )  # fmt: skip
    return table


def _leak_line(report: Report, leaks: Leaks) -> str:
    beside, before, after = report.neighbour, leaks.before, leaks.after
    return (
        f"Beside them {beside.whole} of {beside.streams} healthy streams came whole, the slowest in "
        f"{beside.slowest_s:.2f} s. The gateway held {before.memory_mib:.1f} MiB and {before.sockets} sockets then, "
        f"{after.memory_mib:.1f} MiB and {after.sockets} after {2 * len(report.rows) * _AGAIN} requests more."
    )


def _kills_table(kills: Kills) -> Table:
    title = f"Kills: the engine's own start {kills.cold_s:.1f} s, all of it {kills.up_s:.1f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("signal", "to", "noticed", "back", "goal", "lost on it", "answers", ""):
        table.add_column(name, justify="left" if name in ("signal", "to", "") else "right")
    for hit in kills.hits:
        table.add_row(
            hit.sent, hit.target, f"{hit.noticed_s:.1f} s", f"{hit.back_s:.1f} s", f"{hit.goal_s:.1f} s",
            str(hit.lost), str(hit.good), "[red]not as it should be[/]" if hit.complaints else "[green]good[/]",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
