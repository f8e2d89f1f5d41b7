"""Part B of the fault bench: SIGKILL and SIGSTOP to every process of a real `parley up`, one after another, under load.

The house is a real engine with the demo's base, a hosted model played by a paced mock, gateway, page and worker. After
each blow: how long until it was noticed, until all was well again, and what clients lost that was not on what was hit.
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
from bench.faults_load import Load
from models.database import Database, open_database, upgrade
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from serve.launcher.up_process import Running
from serve.processes import guardian

Sent = Literal["KILL", "STOP"]
ENGINE, HOSTED = "demo-base", "hosted"
_GATEWAY_S, _GONE_S = 5.0, 10.0
_SERVICE_S = 20.0  # the page loads Gradio
_NOTICED_KILL_S = 2.0
# FACTS: an engine core that hangs is to be probed for; a stopped process can be seen in the process table.
_NOTICED_STOP_S = 15.0
_AT_ONCE_S = 0.1
_TOLD_S = 1.0  # until the gateway has read that an engine is gone
_FROZEN_S = 6.0  # how long what only watches stays stopped
_LOST_S = 150.0


@dataclass(frozen=True)
class Blow:
    """A signal to one process: parent, gateway, page, worker, engine, core, or the guardian of one of the middle."""

    sent: Sent
    target: str

    @property
    def service(self) -> str:
        """What it hits, less «'s guardian»."""
        return self.target.removesuffix("'s guardian")

    @property
    def guards(self) -> bool:
        """Whether it hits a guardian."""
        return self.target != self.service


# Once around the tree, with the engine's between those that are soon over.
_CYCLE = (
    *(Blow("KILL", "gateway"), Blow("KILL", "worker"), Blow("KILL", "engine"), Blow("KILL", "page")),
    *(Blow("STOP", "gateway"), Blow("KILL", "core"), Blow("KILL", "gateway's guardian"), Blow("STOP", "worker")),
    *(Blow("KILL", "engine's guardian"), Blow("KILL", "page's guardian"), Blow("STOP", "engine")),
    *(Blow("STOP", "gateway's guardian"), Blow("STOP", "parent"), Blow("STOP", "core"), Blow("KILL", "parent")),
    *(Blow("KILL", "worker's guardian"), Blow("STOP", "page"), Blow("KILL", "core"), Blow("STOP", "engine's guardian")),
    Blow("KILL", "gateway"),
)
_QUICK = (Blow("KILL", "gateway"), Blow("KILL", "engine"), Blow("STOP", "gateway"), Blow("KILL", "parent"))


def blows(rounds: int, *, quick: bool = False) -> tuple[Blow, ...]:
    """So many blows, around the tree again and again."""
    cycle = _QUICK if quick else _CYCLE
    return tuple(cycle[number % len(cycle)] for number in range(rounds))


@dataclass(frozen=True)
class Hit:
    """What became of a blow, in seconds: `noticed_s` and `back_s` from the blow on; `goal_s` is `back_s`'s.

    `lost`: requests that failed on what was hit; `complaints`: whatever was not as it should be.
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
    """All of part B. `cold_s`: the engine's own start in this run; `up_s`: from nothing until all is ready."""

    hits: tuple[Hit, ...]
    cold_s: float
    up_s: float

    @property
    def complaints(self) -> list[str]:
        """Everything that was not as it should be, one line each."""
        return [f"SIG{hit.sent} {hit.target}: {complaint}" for hit in self.hits for complaint in hit.complaints]


class House:
    """A running Parley, and where each of its processes is."""

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
        """Starts it; seconds until all of it is ready."""
        began = time.monotonic()
        self.running = serve.start(self.settings)
        seen: float | None = None
        deadline = began + 2 * _LOST_S
        while not ((state := self.running.state()) and state["ready"]):
            if self.running.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"parley up is not ready: {self.running.log.read_text('utf-8')[-800:]}")
            if seen is None and self.pid("engine") is not None:
                seen = time.monotonic()
            if seen is not None and not self.cold_s and self.row_ready():
                self.cold_s = time.monotonic() - seen
            time.sleep(0.05)
        return time.monotonic() - began

    def stop(self) -> None:
        """Stops it, whatever state it is in."""
        for pid in [self.running.pid, *self.family()]:
            _signal(pid, signal.SIGCONT)
        self.running.stop()
        self.database.dispose()

    def keeper(self, name: str) -> int | None:
        """The guardian's pid of a service or of the engine."""
        if name in ("engine", "core"):
            row = engine_states.read_statuses(self.database).get(ENGINE)
            return row.pid if row else None
        state = self.running.state()
        return state["processes"][name]["pid"] if state else None

    def pid(self, target: str) -> int | None:
        """A process's pid; None while it is not there. Without an engine core of its own the engine is the core."""
        if target == "parent":
            return self.running.pid
        blow = Blow("KILL", target)
        keeper = self.keeper(blow.service)
        if keeper is None or blow.guards:
            return keeper
        below = guardian.children(keeper)
        if not below:
            return None
        if target == "core":
            return next((pid for pid in guardian.descendants(below[0]) if b"EngineCore" in _command(pid)), below[0])
        return below[0]

    def row_ready(self) -> bool:
        """Whether the engine is published as ready."""
        row = engine_states.read_statuses(self.database).get(ENGINE)
        return row is not None and row.state == "ready"

    def service_ready(self, name: str) -> bool:
        """Whether the parent says that a service is ready."""
        state = self.running.state()
        return bool(state and state["processes"][name]["ready"])

    def well(self) -> bool:
        """Whether everything is as after a start."""
        services = all(self.service_ready(name) for name in ("gateway", "page", "worker"))
        return services and self.row_ready() and _answers(self.settings.page_url) and _answers(self._health)

    @property
    def _health(self) -> str:
        return self.settings.gateway_url.removesuffix("/v1") + "/health"

    def family(self) -> set[int]:
        """Every process of this home, wherever it hangs: its home stands in its environment."""
        mark = f"PARLEY_HOME={self.settings.home}".encode()
        found = set()
        for process in psutil.process_iter():
            try:
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.add(process.pid)
            except OSError:
                continue
        return found - {os.getpid()}

    def orphans(self) -> set[int]:
        """Processes of this home that do not hang on its parent."""
        # A process that has just ended is not one that was left.
        strays = self.family() - {self.running.pid, *guardian.descendants(self.running.pid)}
        return {pid for pid in strays if psutil.pid_exists(pid) and _command(pid)}


def run(house: House, chosen: Sequence[Blow], tell: Callable[[Hit], None]) -> Kills:
    """Starts the house, deals the blows under load, and stops it; tells each blow's outcome as it comes."""
    house.up_s = house.start()
    hits = []
    try:
        with Load(house.settings.gateway_url, (ENGINE, HOSTED)) as load:
            for blow in chosen:
                _until(lambda: _all_served(load, time.monotonic() - 5), _LOST_S)
                hit = _deal(house, load, blow)
                hits.append(hit)
                tell(hit)
    finally:
        house.stop()
    return Kills(tuple(hits), round(house.cold_s, 1), round(house.up_s, 1))


def _deal(house: House, load: Load, blow: Blow) -> Hit:
    complaints: list[str] = []
    pid, keeper, before = house.pid(blow.target), None, len(house.family())
    assert pid is not None, f"no {blow.target}"
    if blow.service != "parent":
        keeper = house.keeper(blow.service)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL if blow.sent == "KILL" else signal.SIGSTOP)
    if blow.target == "parent" and blow.sent == "KILL":
        noticed, back = _parent_killed(house, complaints, began)
    elif blow.sent == "STOP" and (blow.guards or blow.target == "parent"):
        # Who only watches is missed by nobody; while he is, the work goes on.
        time.sleep(_FROZEN_S)
        noticed, back = 0.0, 0.0
        os.kill(pid, signal.SIGCONT)
    else:
        noticed = _until(lambda: house.keeper(blow.service) != keeper or not _up(house, blow.service), _LOST_S, began)
        back = _until(house.well, _LOST_S, began) if noticed is not None else None
    well = time.monotonic()
    served = _until(lambda: _all_served(load, well), 30.0)
    if noticed is None or back is None or served is None:
        complaints.append(f"not well again after {_LOST_S:.0f} s")
    losses = load.losses(began, time.monotonic(), _hit_by(blow), _in_flight_until(blow, began, noticed or 0.0))
    complaints += [f"lost on {ask.model}: {ask.end} {ask.words}" for ask in losses.harmed[:3]]
    goal = _goal(house, blow, noticed or 0.0)
    if back is not None and back > goal:
        complaints.append(f"back after {back:.1f} s, and not {goal:.1f} s")
    limit = _NOTICED_KILL_S if blow.sent == "KILL" else _NOTICED_STOP_S
    if noticed is not None and noticed > limit:
        complaints.append(f"noticed after {noticed:.1f} s, and not {limit:.1f} s")
    complaints += _remains(house, before)
    return Hit(
        blow.sent, blow.target, round(noticed or 0.0, 2), round(back or 0.0, 2), round(goal, 1),
        losses.allowed, losses.good, tuple(dict.fromkeys(complaints)),
    )  # fmt: skip


def _parent_killed(house: House, complaints: list[str], began: float) -> tuple[float | None, float | None]:
    """Everything is gone, and the next start finds everything free."""
    house.running.process.wait()
    gone = _until(lambda: not house.family(), 30.0, began)
    if gone is None or gone > _GONE_S:
        complaints.append(f"{len(house.family())} processes were left after {_GONE_S:.0f} s")
    return 0.0, (gone or 30.0) + house.start()


def _goal(house: House, blow: Blow, noticed: float) -> float:
    if blow.target == "parent" and blow.sent == "KILL":
        return _GONE_S + 1.5 * house.up_s
    if blow.sent == "STOP" and (blow.guards or blow.target == "parent"):
        return 0.0
    if blow.service in ("engine", "core"):
        return noticed + 1.5 * house.cold_s
    return (noticed if blow.sent == "STOP" else 0.0) + (_GATEWAY_S if blow.service == "gateway" else _SERVICE_S)


def _hit_by(blow: Blow) -> tuple[str, ...]:
    """The models whose requests are on what is hit."""
    if blow.sent == "STOP" and (blow.guards or blow.target == "parent"):
        return ()
    if blow.service in ("engine", "core"):
        return (ENGINE,)
    return () if blow.service in ("page", "worker") else (ENGINE, HOSTED)


def _in_flight_until(blow: Blow, began: float, noticed: float) -> float:
    """Until when a request may have got to what was hit: a stopped process takes them until it is ended."""
    if blow.target == "parent":
        return float("inf")
    if blow.service == "gateway" and blow.sent == "KILL":
        return began + _AT_ONCE_S
    return began + noticed + _TOLD_S


def _up(house: House, service: str) -> bool:
    return house.row_ready() if service in ("engine", "core") else house.service_ready(service)


def _remains(house: House, before: int) -> list[str]:
    """What a blow left behind once all was well: strays, processes too many, rows of what does not run."""
    found = []
    if _until(lambda: not house.orphans(), 5.0) is None:
        found.append(f"orphans: {[_command(pid)[:80] for pid in house.orphans()]}")
    if _until(lambda: len(house.family()) == before, 15.0) is None:
        found.append(f"{len(house.family())} processes, and before the blow {before}")
    rows = engine_states.read_statuses(house.database)
    if set(rows) != {ENGINE} or rows[ENGINE].pid != house.keeper("engine") or not rows[ENGINE].address:
        found.append(f"rows of what does not run: {rows}")
    return found


def _all_served(load: Load, since: float) -> bool:
    return load.good_since(since) == {ENGINE, HOSTED}


def _until(condition: Callable[[], bool], timeout_s: float, began: float | None = None) -> float | None:
    """Seconds until a condition holds, from `began` on (None: from now); None where it does not in time."""
    began = time.monotonic() if began is None else began
    while not condition():
        if time.monotonic() - began > timeout_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - began


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 -- our own house on loopback
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
