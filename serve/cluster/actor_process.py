"""The engine of an actor as `parley up` sees it: what the actor last reported, and whether it still exists."""

import socket
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from serve.cluster.engine_actor import EngineEnd, EngineReport, EngineStart, NodePlace
from serve.fleet.engine_failures import LOST
from serve.processes.activity import Activity

_REPORT_S = 2.0
_STOP_S = 30.0
_CONNECT_S = 1.0


class ActorProcess:
    """Implements `serve.fleet.engine_process.EngineProcess`.

    Its methods return what was last reported, without waiting for Ray; only `stop` and `kill` wait. A thread of
    `serve.cluster.ray_host` passes on the results of `requests` to `take`.
    """

    def __init__(self, ray: Any, actor: Any, start: EngineStart, model: str) -> None:
        self._ray = ray
        self.actor = actor
        self.model = model
        self._start = start
        self._report = EngineReport(Activity(time.monotonic()))
        self._report_at = time.monotonic()
        self._end: EngineEnd | None = None
        self._awaited_end: Any = None
        self._awaited_report: Any = None
        self._stopping: Any = None
        self.lost_at: float | None = None

    @property
    def place(self) -> NodePlace:
        """Its node."""
        return NodePlace(self._start.node, self._start.node_id)

    @property
    def pid(self) -> int:
        """The guardian's pid on its node."""
        return self._start.pid

    @property
    def activity(self) -> Activity:
        """What its processes had done by the last report."""
        return self._report.activity

    def exit_code(self) -> int | None:
        """None while it runs; 1 if its actor or node is gone."""
        return self._end.exit_code if self._end else None

    def exit_reason(self) -> str:
        """How it ended."""
        return self._end.exit_reason if self._end else ""

    def last_words(self) -> str:
        """The log line that best explains its end."""
        return self._end.last_words if self._end else self._report.last_words

    def is_frozen(self, *, whole_tree: bool = False) -> bool:
        """Whether one of its processes was stopped by a signal at the last report."""
        return self._report.frozen

    def memory_bytes(self) -> int:
        """Resident memory at the last report."""
        return self._report.memory_bytes

    def requests(self) -> list[Any]:
        """Ray's references to the actor's pending calls. Sends the calls that are due."""
        if self._end is not None:
            return []
        if self._awaited_end is None:
            self._awaited_end = self.actor.wait.remote()
        if self._awaited_report is None and time.monotonic() - self._report_at > _REPORT_S:
            self._awaited_report = self.actor.report.remote()
        return [reference for reference in (self._awaited_end, self._awaited_report) if reference is not None]

    def take(self, reference: Any) -> None:
        """Handles the result of a pending call."""
        awaits_end = reference == self._awaited_end
        if awaits_end:
            self._awaited_end = None
        else:
            self._awaited_report, self._report_at = None, time.monotonic()
        try:
            answer = self._ray.get(reference)
        except self._ray.exceptions.ActorUnavailableError as error:
            # The connection to the actor broke. It is asked again, unless its engine has gone too.
            if not self._listens():
                self.lose(describe(error))
        except self._ray.exceptions.RayError as error:
            self.lose(describe(error))
        else:
            if awaits_end:
                self._end = answer
            else:
                # The clocks of two machines cannot be compared.
                activity = replace(answer.activity, at=time.monotonic())
                self._report = replace(answer, activity=activity)

    def lose(self, why: str) -> None:
        """Treats the engine as ended, because its actor is gone."""
        self.lost_at = time.monotonic()
        self._end = self._end or EngineEnd(1, why, self._report.last_words)

    def ask_to_stop(self) -> None:
        """Starts to stop it without waiting."""
        if self._stopping is None and self._end is None:
            self._stopping = self.actor.stop.remote(kill=False)

    def stop(self) -> int:
        """Stops it and its actor, and waits."""
        self.ask_to_stop()
        return self._wait(self._stopping)

    def kill(self) -> int:
        """Stops it without a grace, and its actor, and waits."""
        return self._wait(self.actor.stop.remote(kill=True) if self._end is None else None)

    def _wait(self, stopping: Any) -> int:
        try:
            if stopping is not None:
                code = self._ray.get(stopping, timeout=_STOP_S)
                self._end = self._end or EngineEnd(code, "was stopped")
        except (self._ray.exceptions.RayError, OSError) as error:
            self.lose(describe(error))
        kill(self._ray, self.actor)
        return self.exit_code() or 0

    def _listens(self) -> bool:
        """Whether something still accepts connections at the engine's address."""
        assert self._start.endpoint is not None
        address = urlsplit(self._start.endpoint.address)
        return accepts_connections(address.hostname or "", address.port or 0)


def accepts_connections(host: str, port: int) -> bool:
    """Whether something accepts connections at an address."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            return True
    except OSError:
        return False


def kill(ray: Any, actor: Any) -> None:
    """Ends an actor, if it still exists and Ray can be reached."""
    try:
        ray.kill(actor)
    except (ray.exceptions.RayError, OSError, ValueError):
        return


def describe(error: Exception) -> str:
    """The reason for a lost actor, as a clause in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{LOST}: {lines[0][:200] if lines else type(error).__name__}"
