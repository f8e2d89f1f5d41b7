"""The hosts part of `bench.faults`: SIGKILL to two gateways, two pages and a worker that share one PostgreSQL.

There are two hosts, each with a gateway, a page and a home of its own that links what hosts must share; the worker is
on the first one. A killed process is started again at once, as systemd or Kubernetes does. Clients stream from both
gateways, raters vote at both pages, and the worker evaluates a model meanwhile.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from bench.faults.load import Load
from bench.votes_kill.browsers import Showing, compare_votes, new_battles, open_voting, page_status, vote_on_all
from evals.tasks.evaluations import load_evaluation
from evals.tasks.runner import CONCURRENCY
from models.database import Database, open_database, upgrade
from models.home.page_secret import page_secret
from models.jobs.jobs import enqueue, get_job
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from ui.access.cookies import Cookies

MODEL = "hosted"
SERVICES = ("gateway 1", "gateway 2", "page 1", "page 2", "worker")
_SHARED = ("files", "runs", "models", "usage")
_PAGE_KEY = "pk-of-the-bench-hosts-0123456789"
_SAMPLES, _BATTLES, _BROWSERS = 400, 120, 2
_BEFORE_S, _BETWEEN_S, _TIMEOUT_S = 0.5, 1.0, 180.0
_AT_ONCE_S = 0.1
# A gateway and a page load their modules; a worker first waits until the lease of its predecessor ends.
_GOALS_S = {"gateway": 5.0, "page": 20.0, "worker": 50.0}


@dataclass(frozen=True)
class HostKill:
    """One kill. `back_s`: seconds until the process answers again, or the job continues. `lost`: requests through the
    target that got no answer. `elsewhere`: answers of the other gateway, or votes at the other page, in this time.
    """

    target: str
    back_s: float
    lost: int
    elsewhere: int
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostKills:
    """All kills. `votes`: acknowledged votes, of which `votes_lost` and `votes_doubled`. `jobs`: jobs that ended, each
    with every sample once, except those in `job_complaints`. `unanswered`: their requests that a killed gateway lost.
    """

    kills: tuple[HostKill, ...]
    votes: int
    votes_lost: int
    votes_doubled: int
    jobs: int
    unanswered: int
    job_complaints: tuple[str, ...] = ()

    @property
    def complaints(self) -> list[str]:
        """All violated expectations, one line each."""
        complaints = [f"SIGKILL {kill.target}: {complaint}" for kill in self.kills for complaint in kill.complaints]
        if self.votes_lost or self.votes_doubled:
            complaints.append(f"{self.votes_lost} votes lost, {self.votes_doubled} doubled")
        return complaints + list(self.job_complaints)


class Service:
    """A `parley gateway`, `page` or `worker` process of a host. A context manager."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.kind = name.split()[0]
        self.log = settings.home / f"{self.kind}.log"
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def start(self) -> None:
        """Starts the process and returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "parley", self.kind], env=child_environment(self.settings),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self) -> None:
        """Ends the process by SIGKILL."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(20)

    def answers(self) -> bool:
        """Whether the process answers; for a worker, whether it runs."""
        if self.kind == "worker":
            return self._process.poll() is None
        port, path = (self.settings.port, "/health") if self.kind == "gateway" else (self.settings.page_port, "/vote/")
        return page_status(port, "GET", path) == 200


class HostSet:
    """The two hosts and their load. A context manager."""

    def __init__(self, folder: Path, database_url: str, upstream: str, ports: Sequence[int]) -> None:
        self._folder, self._stack = folder, ExitStack()
        gateway_ports, page_ports = ports[:2], ports[2:]
        homes = [folder / "host-1", folder / "host-2"]
        self.hosts = [
            load_settings(
                home=home, port=port, page_port=page_port, database_url=database_url, page_key=_PAGE_KEY,
                gateway_address=f"http://127.0.0.1:{port}", log_level="warning",
            )
            for home, port, page_port in zip(homes, gateway_ports, page_ports, strict=True)
        ]  # fmt: skip
        _link_homes(folder, homes)
        upgrade(self.hosts[0])
        self.database: Database = open_database(self.hosts[0])
        there = Upstream(base_url=upstream, model=MODEL)
        Registry(self.database).register(ModelSpec(id=MODEL, kind="hosted", upstream=there))
        open_voting(self.database)
        self.services = {name: Service(name, self.hosts[name.endswith("2")]) for name in SERVICES}
        self.voting = Voting(self.database, Cookies(page_secret(homes[0])), page_ports)
        self.jobs: list[str] = []
        self.unanswered = 0

    def __enter__(self) -> Self:
        for service in self.services.values():
            self._stack.enter_context(service)
        _wait(lambda: all(service.answers() for service in self.services.values()))
        self.loads = [self._stack.enter_context(Load(host.gateway_url, [MODEL])) for host in self.hosts]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.database.dispose()

    def running_job(self) -> str:
        """The id of an evaluation that runs and has answers; a new one if the last one has ended."""
        if not self.jobs or get_job(self.database, self.jobs[-1]).over:
            task = self._folder / f"task-{len(self.jobs)}.jsonl"
            rows = (f'{{"input": "Question {len(self.jobs)}.{row}?", "expected": "yes"}}\n' for row in range(_SAMPLES))
            task.write_text("".join(rows), "utf-8")
            parameters = {"task": str(task), "models": [MODEL], "scorers": ["exact"], "max_tokens": 8}
            self.jobs.append(enqueue(self.database, "evaluate", parameters))
        _wait(lambda: get_job(self.database, self.jobs[-1]).progress > 0)
        return self.jobs[-1]

    def job_complaints(self) -> list[str]:
        """Waits for all jobs; returns a line for each that did not succeed with every sample once."""
        complaints = []
        for job_id in self.jobs:
            _wait(lambda job_id=job_id: get_job(self.database, job_id).over)
            job = get_job(self.database, job_id)
            if job.status != "succeeded" or job.result is None:
                complaints.append(f"job {job.status}: {job.error}")
                continue
            results = load_evaluation(self.database, job.result["evaluation"]).results[MODEL]
            unanswered = sum(result.error is not None for result in results)
            # Requests in flight when the worker's gateway was killed may have been billed, so they are not repeated.
            self.unanswered += unanswered
            if len(results) != _SAMPLES or unanswered > CONCURRENCY:
                complaints.append(f"a job has {len(results)} rows of {_SAMPLES}, {unanswered} without an answer")
        return complaints


@dataclass
class Voting:
    """Browsers that vote at both pages."""

    database: Database
    cookies: Cookies
    ports: Sequence[int]
    battles: list[str] = field(default_factory=list)
    acknowledged: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def run(self, until: Callable[[], None]) -> None:
        """Lets browsers vote at both pages while `until` runs, and then until each of their votes is acknowledged."""
        threads = []
        for port, acknowledged in zip(self.ports, self.acknowledged, strict=True):
            showings = new_battles(self.database, self.cookies, _BATTLES)
            self.battles += [showing.id for showing in showings]
            waiting: queue.SimpleQueue[Showing] = queue.SimpleQueue()
            for showing in showings:
                waiting.put(showing)
            arguments = (waiting, port, acknowledged, time.monotonic() + _TIMEOUT_S)
            threads += [threading.Thread(target=vote_on_all, args=arguments) for _ in range(_BROWSERS)]
        for thread in threads:
            thread.start()
        until()
        for thread in threads:
            thread.join()


def run(hosts: HostSet, rounds: int, on_result: Callable[[HostKill], None]) -> HostKills:
    """Kills each process `rounds` times, under load; calls `on_result` after each kill."""
    kills = []
    for number in range(rounds * len(SERVICES)):
        kills.append(_kill(hosts, SERVICES[number % len(SERVICES)]))
        on_result(kills[-1])
    acknowledged = [vote for votes in hosts.voting.acknowledged for vote in votes]
    lost, doubled = compare_votes(hosts.database, hosts.voting.battles, acknowledged)
    missing = len(hosts.voting.battles) - len(acknowledged)
    complaints = tuple(hosts.job_complaints())
    return HostKills(
        tuple(kills), len(acknowledged), lost + missing, doubled, len(hosts.jobs), hosts.unanswered, complaints
    )


def _kill(hosts: HostSet, target: str) -> HostKill:
    service, result = hosts.services[target], HostKill(target, 0.0, 0, 0)
    job = hosts.running_job() if service.kind == "worker" else None

    def kill() -> None:
        nonlocal result
        time.sleep(_BEFORE_S)
        result = _kill_and_restart(hosts, service, job)

    if service.kind == "page":
        before = [len(votes) for votes in hosts.voting.acknowledged]
        hosts.voting.run(kill)
        after = [len(votes) for votes in hosts.voting.acknowledged]
        other = target == "page 1"
        result = replace(result, elsewhere=after[other] - before[other])
    else:
        kill()
    time.sleep(_BETWEEN_S)
    return replace(result, complaints=(*result.complaints, *_complaints(result, service)))


def _kill_and_restart(hosts: HostSet, service: Service, job: str | None) -> HostKill:
    progress = get_job(hosts.database, job).progress if job else 0.0
    began = time.monotonic()
    service.kill()
    killed = time.monotonic()
    service.start()

    def back() -> bool:
        if job is None:
            return service.answers()
        now = get_job(hosts.database, job)
        return now.over or now.progress > progress

    _wait(back)
    ended = time.monotonic()
    lost, elsewhere, complaints = 0, 0, []
    for load, name in zip(hosts.loads, SERVICES[:2], strict=True):
        hit = [MODEL] if name == service.name else []
        # The connection is refused until the process listens again: those requests are lost on it too.
        losses = load.losses(began, ended, hit, ended + _AT_ONCE_S)
        lost += losses.allowed
        elsewhere += 0 if hit else losses.good
        complaints += [f"lost on {name}: {request.end} {request.detail}" for request in losses.unexpected[:3]]
    return HostKill(service.name, round(ended - killed, 2), lost, elsewhere, tuple(complaints))


def _complaints(kill: HostKill, service: Service) -> list[str]:
    goal = _GOALS_S[service.kind]
    complaints = [f"back after {kill.back_s:.1f} s, limit {goal:.0f} s"] * (kill.back_s > goal)
    return complaints + ["nothing was answered elsewhere meanwhile"] * (not kill.elsewhere)


def _link_homes(folder: Path, homes: Sequence[Path]) -> None:
    """Creates the homes. Folders that hosts must share (docs/scaling.md) are links to one folder."""
    for home in homes:
        home.mkdir(parents=True)
    for name in _SHARED:
        (folder / "shared" / name).mkdir(parents=True)
        for home in homes:
            (home / name).symlink_to(folder / "shared" / name)
    page_secret(homes[0])
    (homes[1] / "page-secret").symlink_to(homes[0] / "page-secret")


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nothing happened within {_TIMEOUT_S:.0f} s.")
        time.sleep(0.05)
