"""Breaks upstreams and the database, kills processes of a running Parley, and reports what clients see.

    python -m bench.faults [--part path|kills|database|hosts] [--rounds 20] [--seconds 30] [--quick] [--json]

Part path: a fault proxy on real sockets between the gateway and its upstreams. Each fault is requested as a stream and
not, from an engine and from a hosted model, by the OpenAI SDK and by a client that reads raw bytes; `--rounds` requests
each. Part kills: SIGKILL and SIGSTOP to the processes of a real `parley up` with a vLLM engine, page and worker, under
load; `--rounds` signals in total. Part database: PostgreSQL is gone, restarted, slow or cut off for `--seconds` each,
under two gateways with limited keys. Part hosts: SIGKILL to two gateways, two pages and a worker on one PostgreSQL,
`--rounds` times each. Exit status 1 if any expectation is violated; each violation is printed.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from bench.faults import database_faults, process_kills, upstream_faults
from bench.faults.database_faults import DatabaseFaults, DatabaseResult, Hosts
from bench.faults.gateway import FaultGateway, Resources
from bench.faults.process_kills import KillResult, Kills
from bench.faults.upstream_faults import Report, Row
from models.terminal import console

if TYPE_CHECKING:
    from rich.console import Console

    from bench.faults.host_kills import HostKill, HostKills

_SILENCE_S = 1.0
# After each case the circuit breaker stays open for 5 s, so several cases run concurrently.
_AT_ONCE = 8
_QUICK_ROUNDS, _QUICK_BLOWS, _QUICK_S = 3, 4, 5.0
# aiohttp keeps idle connections for 15 s and checks as often; what remains after this has leaked.
_SETTLED_S = 35.0
# Memory keeps its peak and each model adds metrics; a leak is what repeated requests to the same models add.
_REPEATS = 8
_LEAK_MIB, _LEAK_SOCKETS = 8.0, 2


@dataclass(frozen=True)
class Leaks:
    """What the gateway held after the faults, and after thousands more requests to the same models."""

    before: Resources
    after: Resources

    @property
    def complaints(self) -> list[str]:
        """What has grown beyond its limit."""
        grown = self.after.memory_mib - self.before.memory_mib
        more = self.after.sockets - self.before.sockets
        complaints = [f"the gateway's memory grew by {grown:.0f} MiB"] * (grown > _LEAK_MIB)
        complaints += [f"the gateway holds {more} more sockets"] * (more > _LEAK_SOCKETS)
        return complaints + [f"{self.after.in_flight} requests stay in flight"] * (self.after.in_flight != 0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("path", "kills", "database", "hosts"), help="only this part")
    parser.add_argument(
        "--rounds", type=int, default=20, help="requests per fault, signals in total, kills per process"
    )
    parser.add_argument("--seconds", type=float, default=30, help="how long each fault of the database lasts")
    parser.add_argument(
        "--quick", action="store_true", help="3 requests per fault, 4 signals, 5 seconds, 1 kill per process"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    out = console(stderr=True, quiet=options.json)
    began = time.monotonic()
    results: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "cores": len(os.sched_getaffinity(0))}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="parley-faults-") as folder:
        if options.part in (None, "path"):
            report, leaks = _run_path(Path(folder) / "path", _QUICK_ROUNDS if options.quick else options.rounds)
            failures += report.complaints + leaks.complaints
            results |= {"path": asdict(report), "leaks": asdict(leaks)}
            out.print(_path_table(report.rows))
            out.print(_leak_line(report, leaks))
        if options.part in (None, "database"):
            faults = _run_database(Path(folder) / "database", _QUICK_S if options.quick else options.seconds, out)
            failures += faults.complaints
            results |= {"database": asdict(faults)}
            out.print(_database_table(faults))
        if options.part in (None, "hosts"):
            host_kills = _run_hosts(Path(folder) / "hosts", 1 if options.quick else options.rounds, out)
            failures += host_kills.complaints
            results |= {"hosts": asdict(host_kills)}
            out.print(_hosts_table(host_kills))
        if options.part in (None, "kills"):
            chosen = process_kills.process_faults(
                _QUICK_BLOWS if options.quick else options.rounds, quick=options.quick
            )
            kills = _run_kills(Path(folder) / "kills", chosen, out)
            failures += kills.complaints
            results |= {"kills": asdict(kills)}
            out.print(_kills_table(kills))
    results |= {"failures": failures, "seconds": round(time.monotonic() - began, 1)}
    for failure in failures:
        out.print(f"[red]violated:[/] {failure}")
    out.print("All expectations hold." if not failures else f"{len(failures)} violations.")
    print(json.dumps(results))
    return int(bool(failures))


def _run_path(home: Path, rounds: int) -> tuple[Report, Leaks]:
    from tests.serve.paced_upstream import PacedUpstream

    cases = upstream_faults.cases()
    with (
        PacedUpstream(chunks=8, pace_s=0.01) as upstream,
        FaultGateway(home, **upstream_faults.timeout_settings(_SILENCE_S)) as gateway,
    ):
        runner = upstream_faults.FaultRun(gateway, upstream.address, silence_s=_SILENCE_S)
        report = asyncio.run(runner.run(cases, rounds=rounds, at_once=_AT_ONCE))
        time.sleep(_SETTLED_S)
        before = gateway.resources()
        asyncio.run(runner.repeat(_REPEATS))
        time.sleep(_SETTLED_S)
        return report, Leaks(before, gateway.resources())


def _run_kills(home: Path, chosen: Sequence[process_kills.ProcessFault], out: "Console") -> Kills:
    from models.demo import catalogue
    from models.settings.settings import load_settings
    from tests.serve.paced_upstream import PacedUpstream
    from tests.stack import free_ports

    def report(hit: KillResult) -> None:
        wrong = f" [red]{'; '.join(hit.complaints)}[/]" if hit.complaints else ""
        out.print(f"SIG{hit.sent} {hit.target}: recovered after {hit.back_s:.1f} s{wrong}")

    port, page_port = free_ports(2)
    settings = load_settings(home=home, port=port, page_port=page_port, device="cpu", cpu_kv_cache_gib=0.25)
    with PacedUpstream(chunks=48, pace_s=0.02) as upstream:
        gateway = process_kills.Deployment(settings, catalogue()[0].weights, f"{upstream.address}/v1")
        return process_kills.run(gateway, chosen, report)


def _run_hosts(folder: Path, rounds: int, out: "Console") -> "HostKills":
    from bench.faults.host_kills import HostSet, run
    from tests.serve.paced_upstream import PacedUpstream
    from tests.serve.postgres import Postgres
    from tests.stack import free_ports

    def report(kill: "HostKill") -> None:
        wrong = f" [red]{'; '.join(kill.complaints)}[/]" if kill.complaints else ""
        out.print(f"SIGKILL {kill.target}: back after {kill.back_s:.1f} s{wrong}")

    with ExitStack() as stack:
        upstream = stack.enter_context(PacedUpstream(chunks=48, pace_s=0.02))
        url = stack.enter_context(Postgres()).new_database()
        hosts = stack.enter_context(HostSet(folder, url, f"{upstream.address}/v1", free_ports(4)))
        return run(hosts, rounds, report)


def _hosts_table(kills: "HostKills") -> Table:
    """One row per process, all its kills together."""
    title = f"Kills on two hosts: {kills.votes} votes, {kills.votes_lost} lost, {kills.votes_doubled} doubled"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("SIGKILL to", "kills", "back, median", "back, slowest", "lost", "elsewhere", ""):
        table.add_column(name, justify="left" if name in ("SIGKILL to", "") else "right")
    for target in dict.fromkeys(kill.target for kill in kills.kills):
        hits = [kill for kill in kills.kills if kill.target == target]
        backs = [hit.back_s for hit in hits]
        table.add_row(
            target, str(len(hits)), f"{median(backs):.1f} s", f"{max(backs):.1f} s", str(sum(hit.lost for hit in hits)),
            str(sum(hit.elsewhere for hit in hits)),
            "[red]violated[/]" if any(hit.complaints for hit in hits) else "[green]good[/]",
        )  # fmt: skip
    return table


def _run_database(folder: Path, seconds: float, out: "Console") -> DatabaseFaults:
    from tests.serve.paced_upstream import PacedUpstream
    from tests.serve.postgres import Postgres

    def report(result: DatabaseResult) -> None:
        wrong = f" [red]{'; '.join(result.complaints)}[/]" if result.complaints else ""
        out.print(f"{result.fault}: {result.answered} answers, recovered after {result.recovered_s} s{wrong}")

    with ExitStack() as stack:
        upstream = stack.enter_context(PacedUpstream())
        postgres = stack.enter_context(Postgres())
        return database_faults.run(Hosts(folder, postgres, upstream.address, stack), seconds, report)


def _database_table(faults: DatabaseFaults) -> Table:
    table = Table(title="Faults of PostgreSQL", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("fault", "lasted", "answers", "failed", "slowest", "admitted", "noticed", "recovered", "lost", ""):
        table.add_column(name, justify="left" if name in ("fault", "") else "right")
    for result in faults.results:
        noticed, recovered = result.noticed_s, result.recovered_s
        table.add_row(
            result.fault, f"{result.seconds:.0f} s", str(result.answered), str(result.failed),
            f"{result.slowest_s:.2f} s", f"{result.admitted} of {result.allowed}",
            "" if noticed is None else f"{noticed:.1f} s", "" if recovered is None else f"{recovered:.1f} s",
            str(result.lost), "[red]violated[/]" if result.complaints else "[green]good[/]",
        )  # fmt: skip
    return table


def _path_table(rows: Sequence[Row]) -> Table:
    """One row per fault and route, all four kinds of client together. `asked`: the most upstream requests for one."""
    table = Table(title="Faults of upstreams", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("fault", "route", "good", "slowest", "within", "asked", "recovered"):
        table.add_column(name, justify="left" if name in ("fault", "route") else "right", no_wrap=name == "fault")
    for (fault, route), several in groupby(rows, lambda row: (row.fault, row.route)):
        cases = list(several)
        good, total = sum(row.good for row in cases), sum(row.rounds for row in cases)
        style = "green" if not any(row.complaints for row in cases) else "red"
        table.add_row(
            fault, route, f"[{style}]{good}/{total}[/]", f"{max(row.slowest_s for row in cases):.1f} s",
            f"{cases[0].within_s:.1f} s", str(max(row.most_asked for row in cases)),
            f"{max(row.recovered_s for row in cases):.1f} s",
        )  # fmt: skip
    return table


def _leak_line(report: Report, leaks: Leaks) -> str:
    healthy, before, after = report.neighbour, leaks.before, leaks.after
    return (
        f"Meanwhile {healthy.whole} of {healthy.streams} healthy streams arrived whole, the slowest in "
        f"{healthy.slowest_s:.2f} s. The gateway held {before.memory_mib:.1f} MiB and {before.sockets} sockets, then "
        f"{after.memory_mib:.1f} MiB and {after.sockets} after {2 * len(report.rows) * _REPEATS} more requests."
    )


def _kills_table(kills: Kills) -> Table:
    title = f"Kills: engine start {kills.cold_s:.1f} s, full start {kills.up_s:.1f} s"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("signal", "to", "noticed", "recovered", "limit", "lost", "answers", ""):
        table.add_column(name, justify="left" if name in ("signal", "to", "") else "right")
    for hit in kills.hits:
        table.add_row(
            hit.sent, hit.target, f"{hit.noticed_s:.1f} s", f"{hit.back_s:.1f} s", f"{hit.goal_s:.1f} s",
            str(hit.lost), str(hit.good), "[red]violated[/]" if hit.complaints else "[green]good[/]",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
