"""The kills part of `bench.faults`: SIGKILL and SIGSTOP to each process of a real `parley up`, under load.

The deployment has a vLLM engine with the demo's base, a hosted model (a paced mock), gateway, page and worker. After
each signal it measures the time to detection and recovery, and counts failed requests that the target did not serve.
"""

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

import serve
from bench.faults.load import Load
from models.database import Database, open_database, upgrade
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from serve.launcher.up_process import Running
from serve.processes import guardian

Sent = Literal["KILL", "STOP"]
ENGINE, HOSTED = "demo-base", "hosted"
_GATEWAY_S, _GONE_S = 5.0, 10.0
_SERVICE_S = 20.0  # the page loads Gradio
_NOTICED_KILL_S = 2.0
# A hanging engine core is found by probes; a stopped process shows in the process table.
_NOTICED_STOP_S = 15.0
_AT_ONCE_S = 0.1
_ROUTE_UPDATE_S = 1.0  # until the gateway has read that an engine is gone
_PAUSE_S = 6.0  # how long a stopped guardian or parent stays stopped
_TIMEOUT_S = 150.0


@dataclass(frozen=True)
class ProcessFault:
    """A signal to one process: parent, gateway, page, worker, engine, core, or the guardian of a service or engine."""

    sent: Sent
    target: str

    @property
    def service(self) -> str:
        """The target without the suffix "'s guardian"."""
        return self.target.removesuffix("'s guardian")

    @property
    def hits_guardian(self) -> bool:
        """Whether the target is a guardian."""
        return self.target != self.service


# Each process once; slow recoveries of the engine alternate with quick ones.
_CYCLE: tuple[tuple[Sent, str], ...] = (
    *(("KILL", "gateway"), ("KILL", "worker"), ("KILL", "engine"), ("KILL", "page"), ("STOP", "gateway")),
    *(("KILL", "core"), ("KILL", "gateway's guardian"), ("STOP", "worker"), ("KILL", "engine's guardian")),
    *(("KILL", "page's guardian"), ("STOP", "engine"), ("STOP", "gateway's guardian"), ("STOP", "parent")),
    *(("STOP", "core"), ("KILL", "parent"), ("KILL", "worker's guardian"), ("STOP", "page"), ("KILL", "core")),
    *(("STOP", "engine's guardian"), ("KILL", "gateway")),
)
_QUICK: tuple[tuple[Sent, str], ...] = (
    ("KILL", "gateway"), ("KILL", "engine"), ("STOP", "gateway"), ("KILL", "parent"),
)  # fmt: skip


def process_faults(rounds: int, *, quick: bool = False) -> tuple[ProcessFault, ...]:
    """The first `rounds` signals of the cycle, which repeats."""
    cycle = _QUICK if quick else _CYCLE
    return tuple(ProcessFault(*cycle[number % len(cycle)]) for number in range(rounds))


@dataclass(frozen=True)
class KillResult:
    """One signal's result. Seconds from the signal: `noticed_s` to detection, `back_s` to recovery, `goal_s` its limit.

    `lost` counts requests that failed on the target; `complaints` lists violated expectations.
    """

    sent: Sent
    target: str
    noticed_s: float
    back_s: float
    goal_s: float
    lost: int
    good: int
    complaints: tuple[str, ...]


@dataclass(frozen=True)
class Kills:
    """All results. `cold_s`: seconds of the engine's start; `up_s`: seconds from start until everything is ready."""

    hits: tuple[KillResult, ...]
    cold_s: float
    up_s: float

    @property
    def complaints(self) -> list[str]:
        """All violated expectations, one line each."""
        return [f"SIG{hit.sent} {hit.target}: {complaint}" for hit in self.hits for complaint in hit.complaints]


class Deployment:
    """A running Parley and the ids of its processes."""

    def __init__(self, settings: Settings, weights: Path, hosted: str) -> None:
        self.settings = settings
        upgrade(settings)
        self.database: Database = open_database(settings)
        registry = Registry(self.database)
        registry.register(ModelSpec(id=ENGINE, kind="base", path=str(weights)))
        registry.register(ModelSpec(id=HOSTED, kind="hosted", upstream=Upstream(base_url=hosted, model=HOSTED)))
        self.running: Running
        self.cold_s = self.up_s = 0.0

    def start(self) -> float:
        """Starts it and returns the seconds until everything is ready."""
        began = time.monotonic()
        self.running = serve.start(self.settings)
        engine_started: float | None = None
        deadline = began + 2 * _TIMEOUT_S
        while not ((state := self.running.state()) and state["ready"]):
            if self.running.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"parley up is not ready: {self.running.log.read_text('utf-8')[-800:]}")
            if engine_started is None and self.pid("engine") is not None:
                engine_started = time.monotonic()
            if engine_started is not None and not self.cold_s and self.engine_ready():
                self.cold_s = time.monotonic() - engine_started
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """Stops it, after resuming any process that is still stopped."""
        for pid in [self.running.pid, *self.process_ids()]:
            _signal(pid, signal.SIGCONT)
        self.running.stop()
        self.database.dispose()

    def guardian_pid(self, name: str) -> int | None:
        """The guardian's pid of a service or the engine; None while it is not running."""
        if name in ("engine", "core"):
            row = engine_states.read_statuses(self.database).get(ENGINE)
            return row.pid if row else None
        state = self.running.state()
        return state["processes"][name]["pid"] if state else None

    def pid(self, target: str) -> int | None:
        """A target's pid; None while it is not running. Without a separate engine core, the engine stands for it."""
        if target == "parent":
            return self.running.pid
        fault = ProcessFault("KILL", target)
        guardian_pid = self.guardian_pid(fault.service)
        if guardian_pid is None or fault.hits_guardian:
            return guardian_pid
        below = guardian.children(guardian_pid)
        if not below:
            return None
        if target == "core":
            return next((pid for pid in guardian.descendants(below[0]) if b"EngineCore" in _command(pid)), below[0])
        return below[0]

    def engine_ready(self) -> bool:
        """Whether the engine's row says ready."""
        row = engine_states.read_statuses(self.database).get(ENGINE)
        return row is not None and row.state == "ready"

    def service_ready(self, name: str) -> bool:
        """Whether the parent reports a service as ready."""
        state = self.running.state()
        return bool(state and state["processes"][name]["ready"])

    def is_healthy(self) -> bool:
        """Whether engine and services are ready and answer."""
        services = all(self.service_ready(name) for name in ("gateway", "page", "worker"))
        return services and self.engine_ready() and _answers(self.settings.page_url) and _answers(self._health)

    @property
    def _health(self) -> str:
        return self.settings.gateway_url.removesuffix("/v1") + "/health"

    def process_ids(self) -> set[int]:
        """The pid of every process whose environment names this home."""
        mark = f"PARLEY_HOME={self.settings.home}".encode()
        pids = set()
        for process in psutil.process_iter():
            try:
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    pids.add(process.pid)
            except OSError:
                continue
        return pids - {os.getpid()}

    def orphans(self) -> set[int]:
        """Processes of this home that are not descendants of its parent."""
        # A process that has just ended is no orphan.
        strays = self.process_ids() - {self.running.pid, *guardian.descendants(self.running.pid)}
        return {pid for pid in strays if psutil.pid_exists(pid) and _command(pid)}


def run(deployment: Deployment, chosen: Sequence[ProcessFault], on_result: Callable[[KillResult], None]) -> Kills:
    """Starts the deployment, sends the signals under load, stops it; calls `on_result` after each signal."""
    deployment.up_s = deployment.start()
    results = []
    try:
        with Load(deployment.settings.gateway_url, (ENGINE, HOSTED)) as load:
            for fault in chosen:
                _until(lambda: _all_served(load, time.monotonic() - 5), _TIMEOUT_S)
                hit = _inject(deployment, load, fault)
                results.append(hit)
                on_result(hit)
    finally:
        deployment.stop()
    return Kills(tuple(results), round(deployment.cold_s, 1), round(deployment.up_s, 1))


def _inject(deployment: Deployment, load: Load, fault: ProcessFault) -> KillResult:
    complaints: list[str] = []
    pid, guardian_pid, before = deployment.pid(fault.target), None, len(deployment.process_ids())
    assert pid is not None, f"no {fault.target}"
    if fault.service != "parent":
        guardian_pid = deployment.guardian_pid(fault.service)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL if fault.sent == "KILL" else signal.SIGSTOP)
    if fault.target == "parent" and fault.sent == "KILL":
        noticed, back = _parent_killed(deployment, complaints, began)
    elif fault.sent == "STOP" and (fault.hits_guardian or fault.target == "parent"):
        # A stopped guardian or parent interrupts no request.
        time.sleep(_PAUSE_S)
        noticed, back = 0.0, 0.0
        os.kill(pid, signal.SIGCONT)
    else:
        noticed = _until(
            lambda: deployment.guardian_pid(fault.service) != guardian_pid or not _is_ready(deployment, fault.service),
            _TIMEOUT_S,
            began,
        )
        back = _until(deployment.is_healthy, _TIMEOUT_S, began) if noticed is not None else None
    recovered = time.monotonic()
    served = _until(lambda: _all_served(load, recovered), 30.0)
    if noticed is None or back is None or served is None:
        complaints.append(f"not recovered after {_TIMEOUT_S:.0f} s")
    losses = load.losses(
        began, time.monotonic(), _affected_models(fault), _in_flight_until(fault, began, noticed or 0.0)
    )
    complaints += [f"lost on {lost.model}: {lost.end} {lost.detail}" for lost in losses.unexpected[:3]]
    goal = _goal(deployment, fault, noticed or 0.0)
    if back is not None and back > goal:
        complaints.append(f"recovered after {back:.1f} s, limit {goal:.1f} s")
    limit = _NOTICED_KILL_S if fault.sent == "KILL" else _NOTICED_STOP_S
    if noticed is not None and noticed > limit:
        complaints.append(f"noticed after {noticed:.1f} s, limit {limit:.1f} s")
    complaints += _leftovers(deployment, before)
    return KillResult(
        fault.sent, fault.target, round(noticed or 0.0, 2), round(back or 0.0, 2), round(goal, 1),
        losses.allowed, losses.good, tuple(dict.fromkeys(complaints)),
    )  # fmt: skip


def _parent_killed(deployment: Deployment, complaints: list[str], began: float) -> tuple[float | None, float | None]:
    """Waits until every process is gone, then starts again."""
    deployment.running.process.wait()
    gone = _until(lambda: not deployment.process_ids(), 30.0, began)
    if gone is None or gone > _GONE_S:
        complaints.append(f"{len(deployment.process_ids())} processes left after {_GONE_S:.0f} s")
    return 0.0, (gone or 30.0) + deployment.start()


def _goal(deployment: Deployment, fault: ProcessFault, noticed: float) -> float:
    if fault.target == "parent" and fault.sent == "KILL":
        return _GONE_S + 1.5 * deployment.up_s
    if fault.sent == "STOP" and (fault.hits_guardian or fault.target == "parent"):
        return 0.0
    if fault.service in ("engine", "core"):
        return noticed + 1.5 * deployment.cold_s
    return (noticed if fault.sent == "STOP" else 0.0) + (_GATEWAY_S if fault.service == "gateway" else _SERVICE_S)


def _affected_models(fault: ProcessFault) -> tuple[str, ...]:
    """The models whose requests run through the target."""
    if fault.sent == "STOP" and (fault.hits_guardian or fault.target == "parent"):
        return ()
    if fault.service in ("engine", "core"):
        return (ENGINE,)
    return () if fault.service in ("page", "worker") else (ENGINE, HOSTED)


def _in_flight_until(fault: ProcessFault, began: float, noticed: float) -> float:
    """The latest time a request may have reached the target: a stopped process accepts requests until it is killed."""
    if fault.target == "parent":
        return float("inf")
    if fault.service == "gateway" and fault.sent == "KILL":
        return began + _AT_ONCE_S
    return began + noticed + _ROUTE_UPDATE_S


def _is_ready(deployment: Deployment, service: str) -> bool:
    return deployment.engine_ready() if service in ("engine", "core") else deployment.service_ready(service)


def _leftovers(deployment: Deployment, before: int) -> list[str]:
    """What a signal left behind after recovery: orphans, extra processes, rows of engines that do not run."""
    leftovers = []
    if _until(lambda: not deployment.orphans(), 5.0) is None:
        leftovers.append(f"orphans: {[_command(pid)[:80] for pid in deployment.orphans()]}")
    if _until(lambda: len(deployment.process_ids()) == before, 15.0) is None:
        leftovers.append(f"{len(deployment.process_ids())} processes, {before} before the signal")
    rows = engine_states.read_statuses(deployment.database)
    if set(rows) != {ENGINE} or rows[ENGINE].pid != deployment.guardian_pid("engine") or not rows[ENGINE].address:
        leftovers.append(f"stale engine rows: {rows}")
    return leftovers


def _all_served(load: Load, since: float) -> bool:
    return load.good_since(since) == {ENGINE, HOSTED}


def _until(condition: Callable[[], bool], timeout_s: float, began: float | None = None) -> float | None:
    """Seconds from `began` (None: now) until a condition holds; None after `timeout_s`."""
    began = time.monotonic() if began is None else began
    while not condition():
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - began


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 -- our own page or gateway on loopback
            return answer.status < 500
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
