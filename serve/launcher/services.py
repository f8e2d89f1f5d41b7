"""Our own long-running processes (gateway, page, worker): started, probed, and restarted when they end or hang.

Engines belong to the supervisor; this file knows nothing of models.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from models.errors import ParleyError
from serve.processes.activity import Activity, measure_activity
from serve.processes.children import Command, Process, spawn, stop_all
from serve.transport.worker_sockets import PING, ask

UNIX_PROBE = "unix:"  # before the path of a socket of serve.transport.worker_sockets
_BACKOFF_LIMIT_S = 30.0
_STEADY_S = 5.0
# One that was ready works: killed again and again, it waits for 2 s at most, and not for 30 s.
_MOST_FAILURES_READY = 3
_GIVE_UP_AFTER = 4
_LOOK_S = 1.0
_PROBE_S = 5.0
_PROBE_TIMEOUT_S = 5.0
# A service that a signal has stopped (SIGSTOP) is killed after two looks, 2 s at most. One that neither answers nor
# uses the CPU is killed after three probes, (5 + 5) * 3 = 30 s. A busy one is slow and is left alone.
_MAX_MISSED = 3
_FROZEN = "was stopped by a signal and did not continue"
_WORKING_SHARE = 0.05


@dataclass
class Service:
    """One of our processes. `probe`: an address that answers with a status below 500 once it is ready, or a Unix
    socket that answers; None: ready at once.
    """

    command: Command
    probe: str | None
    process: Process | None = None
    ready: bool = False
    was_ready: bool = False
    since: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    checked_at: float = 0.0
    frozen: bool = False
    probed_at: float = 0.0
    missed_probes: int = 0
    activity: Activity | None = None

    @property
    def name(self) -> str:
        """Its name in messages and logs."""
        return self.command.name


class Services:
    """Keeps the services running."""

    def __init__(self, services: list[Service], logs: Path, report: Callable[[str], None]) -> None:
        self.all = services
        self._logs = logs
        self._report = report

    @property
    def guardians(self) -> set[int]:
        """The pids of their guardians."""
        return {service.process.pid for service in self.all if service.process}

    def ready(self) -> bool:
        """Whether all of them answer."""
        return all(service.ready for service in self.all)

    async def run(self) -> None:
        """Watches them until cancelled.

        Raises:
            ParleyError: one of them never became ready, in several starts.
        """
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            watching = [asyncio.create_task(self._watch(session, service)) for service in self.all]
            try:
                await asyncio.gather(*watching)
            finally:
                for task in watching:
                    task.cancel()

    def stop(self) -> None:
        """Stops them all and waits."""
        stop_all([service.process for service in self.all if service.process])

    def kill(self) -> None:
        """Stops them all without a grace."""
        for service in self.all:
            if service.process:
                service.process.kill()

    async def _watch(self, session: aiohttp.ClientSession, service: Service) -> None:
        """Watches one service by itself, so that a slow probe delays no other."""
        while True:
            await self._step(session, service)
            await asyncio.sleep(0.1)

    async def _step(self, session: aiohttp.ClientSession, service: Service) -> None:
        now = time.monotonic()
        if service.process is None:
            if now >= service.restart_at:
                # Not in a thread: the check for stray processes must never see a child that is not known yet.
                try:
                    service.process = spawn(service.command, self._logs)
                except ParleyError as error:
                    self._on_end(service, f"{service.name} cannot be started: {error}")
                    return
                service.since, service.ready, service.frozen, service.missed_probes = now, False, False, 0
                service.activity = None
                service.checked_at = service.probed_at = now
            return
        if service.process.exit_code() is not None:
            self._on_end(service, f"{service.name} {service.process.exit_reason()}")
        elif self._is_frozen(service, service.process):
            await self._kill(service, service.process, _FROZEN)
        elif not service.ready:
            if await _is_answering(session, service.probe):
                service.ready = service.was_ready = True
                service.probed_at = time.monotonic()
                self._report(f"{service.name} is ready")
        elif service.probe is not None and now - service.probed_at > _PROBE_S:
            await self._probe(session, service, service.process)

    async def _probe(self, session: aiohttp.ClientSession, service: Service, process: Process) -> None:
        """Probes once, and keeps checking for a frozen process meanwhile."""
        probe = asyncio.create_task(_is_answering(session, service.probe))
        try:
            while not probe.done():
                await asyncio.wait({probe}, timeout=_LOOK_S / 4)
                if self._is_frozen(service, process):
                    await self._kill(service, process, _FROZEN)
                    return
        finally:
            probe.cancel()
        self._note_probe(service, process, probe.result())
        if service.missed_probes >= _MAX_MISSED:
            await self._kill(service, process, "stopped answering")

    def _note_probe(self, service: Service, process: Process, answered: bool) -> None:
        service.probed_at = time.monotonic()
        before, service.activity = service.activity, None if answered else measure_activity(process)
        if service.activity is None:
            service.missed_probes = 0
        elif before is None or not service.activity.worked_since(before, _WORKING_SHARE):
            service.missed_probes += 1

    def _is_frozen(self, service: Service, process: Process) -> bool:
        if time.monotonic() - service.checked_at < _LOOK_S:
            return False
        service.checked_at = time.monotonic()
        before, service.frozen = service.frozen, process.is_frozen()
        return before and service.frozen

    async def _kill(self, service: Service, process: Process, reason: str) -> None:
        await asyncio.to_thread(process.kill)
        self._on_end(service, f"{service.name} {reason}")

    def _on_end(self, service: Service, message: str) -> None:
        now = time.monotonic()
        steady = service.ready and now - service.since > _STEADY_S
        service.failures = 1 if steady else service.failures + 1
        if service.ready:
            service.failures = min(service.failures, _MOST_FAILURES_READY)
        wait = 0.0 if service.failures == 1 else min(2.0 ** (service.failures - 2), _BACKOFF_LIMIT_S)
        service.process, service.ready, service.restart_at = None, False, now + wait
        if not service.was_ready and service.failures >= _GIVE_UP_AFTER:
            raise ParleyError(f"{message}. It never became ready: see {self._logs / service.name}.log.")
        self._report(f"{message}; restarting")


async def _is_answering(session: aiohttp.ClientSession, address: str | None) -> bool:
    if address is None:
        return True
    try:
        if address.startswith(UNIX_PROBE):
            return bool(await ask(Path(address.removeprefix(UNIX_PROBE)), PING, _PROBE_TIMEOUT_S))
        # The probe sends no secret, and the certificate is not issued for a loopback address.
        async with session.get(address, allow_redirects=False, ssl=False) as answer:
            return answer.status < 500
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
