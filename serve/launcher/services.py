"""Our own long-running processes (gateway, page, worker): started, probed, and started again when they end or hang.

Engines are the supervisor's; this file knows nothing of models.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from models.errors import ParleyError
from serve.processes.children import Command, Process, spawn, stop_all

_BACKOFF_LIMIT_S = 30.0
_STEADY_S = 5.0
_GIVE_UP_AFTER = 4
_LOOK_S = 1.0
_PROBE_S = 5.0
_PROBE_TIMEOUT_S = 5.0
# One that a signal has stopped (SIGSTOP) is killed after two looks, 2 s at the most; one that answers nothing and uses
# no processor either after three probes, (5 + 5) * 3 = 30 s. A busy one is late, and is left alone.
_MISSED = 3
_FROZEN = "was stopped by a signal and did not go on"
_WORKING_SHARE = 0.05


@dataclass
class Service:
    """One of our processes. `probe`: an address that answers with less than 500 once it is ready; None: at once."""

    command: Command
    probe: str | None
    process: Process | None = None
    ready: bool = False
    came_up: bool = False
    since: float = 0.0
    again_at: float = 0.0
    failures: int = 0
    looked: float = 0.0
    frozen: bool = False
    probed: float = 0.0
    missed: int = 0
    cpu_seconds: float = 0.0

    @property
    def name(self) -> str:
        """What people call it."""
        return self.command.name


class Services:
    """Keeps them running."""

    def __init__(self, services: list[Service], logs: Path, tell: Callable[[str], None]) -> None:
        self.all = services
        self._logs = logs
        self._tell = tell

    @property
    def guardians(self) -> set[int]:
        """The pids of their guardians."""
        return {service.process.pid for service in self.all if service.process}

    def ready(self) -> bool:
        """Whether every one of them answers."""
        return all(service.ready for service in self.all)

    async def run(self) -> None:
        """Watches until it is cancelled.

        Raises:
            ParleyError: one of them never came up, in several starts.
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
        """Stops them all, and waits."""
        stop_all([service.process for service in self.all if service.process])

    def kill(self) -> None:
        """Stops them all without any grace."""
        for service in self.all:
            if service.process:
                service.process.kill()

    async def _watch(self, session: aiohttp.ClientSession, service: Service) -> None:
        """One service, by itself: a probe that waits for an answer holds up no other."""
        while True:
            await self._step(session, service)
            await asyncio.sleep(0.1)

    async def _step(self, session: aiohttp.ClientSession, service: Service) -> None:
        now = time.monotonic()
        if service.process is None:
            if now >= service.again_at:
                # Not in a thread: whoever looks for strays must never see a child that nobody knows yet.
                try:
                    service.process = spawn(service.command, self._logs)
                except ParleyError as error:
                    self._ended(service, f"{service.name} cannot be started: {error}")
                    return
                service.since, service.ready, service.frozen, service.missed = now, False, False, 0
                service.looked = service.probed = now
            return
        if service.process.exit_code() is not None:
            self._ended(service, f"{service.name} {service.process.exit_reason()}")
        elif self._is_frozen(service, service.process):
            await self._end(service, service.process, _FROZEN)
        elif not service.ready:
            if await _answers(session, service.probe):
                service.ready = service.came_up = True
                service.probed = time.monotonic()
                self._tell(f"{service.name} is ready")
        elif service.probe is not None and now - service.probed > _PROBE_S:
            await self._ask(session, service, service.process)

    async def _ask(self, session: aiohttp.ClientSession, service: Service, process: Process) -> None:
        """One probe. While it waits for its answer, the process is looked at as ever."""
        asking = asyncio.create_task(_answers(session, service.probe))
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=_LOOK_S / 4)
                if self._is_frozen(service, process):
                    await self._end(service, process, _FROZEN)
                    return
        finally:
            asking.cancel()
        self._note_probe(service, process, asking.result())
        if service.missed >= _MISSED:
            await self._end(service, process, "answered nothing any more")

    def _note_probe(self, service: Service, process: Process, answered: bool) -> None:
        since, service.probed = service.probed, time.monotonic()
        before, service.cpu_seconds = service.cpu_seconds, 0.0 if answered else process.cpu_seconds()
        works = service.cpu_seconds - before > _WORKING_SHARE * (service.probed - since)
        if answered:
            service.missed = 0
        elif not service.missed or not works:
            service.missed += 1

    def _is_frozen(self, service: Service, process: Process) -> bool:
        if time.monotonic() - service.looked < _LOOK_S:
            return False
        service.looked = time.monotonic()
        before, service.frozen = service.frozen, process.is_frozen()
        return before and service.frozen

    async def _end(self, service: Service, process: Process, why: str) -> None:
        await asyncio.to_thread(process.kill)
        self._ended(service, f"{service.name} {why}")

    def _ended(self, service: Service, told: str) -> None:
        now = time.monotonic()
        steady = service.ready and now - service.since > _STEADY_S
        service.failures = 1 if steady else service.failures + 1
        wait = 0.0 if service.failures == 1 else min(2.0 ** (service.failures - 2), _BACKOFF_LIMIT_S)
        service.process, service.ready, service.again_at = None, False, now + wait
        if not service.came_up and service.failures >= _GIVE_UP_AFTER:
            raise ParleyError(f"{told}. It never came up: see {self._logs / service.name}.log.")
        self._tell(f"{told}; starting it again")


async def _answers(session: aiohttp.ClientSession, address: str | None) -> bool:
    if address is None:
        return True
    try:
        async with session.get(address, allow_redirects=False) as answer:
            return answer.status < 500
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
