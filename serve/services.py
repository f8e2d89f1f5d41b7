"""Our own long-running processes (gateway, page, worker): started, probed, and started again when they end.

Engines are the supervisor's; this file knows nothing of models.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from models.errors import ParleyError
from serve.processes import Command, Process, spawn, stop_all

_BACKOFF_LIMIT_S = 30.0
_STEADY_S = 30.0
_GIVE_UP_AFTER = 4


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
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                for service in self.all:
                    await self._step(session, service)
                await asyncio.sleep(0.1)

    def stop(self) -> None:
        """Stops them all, and waits."""
        stop_all([service.process for service in self.all if service.process])

    async def _step(self, session: aiohttp.ClientSession, service: Service) -> None:
        now = time.monotonic()
        if service.process is None:
            if now >= service.again_at:
                # Not in a thread: whoever looks for strays must never see a child that nobody knows yet.
                service.process = spawn(service.command, self._logs)
                service.since, service.ready = now, False
            return
        code = service.process.exit_code()
        if code is not None:
            words = service.process.last_words()
            steady = service.ready and now - service.since > _STEADY_S
            service.failures = 1 if steady else service.failures + 1
            wait = 0.0 if service.failures == 1 else min(2.0 ** (service.failures - 2), _BACKOFF_LIMIT_S)
            service.process, service.ready, service.again_at = None, False, now + wait
            told = f"{service.name} ended with status {code}{': ' + words if words else ''}"
            if not service.came_up and service.failures >= _GIVE_UP_AFTER:
                raise ParleyError(f"{told}. It never came up: see {self._logs / service.name}.log.")
            self._tell(f"{told}; starting it again")
        elif not service.ready and await _answers(session, service.probe):
            service.ready = service.came_up = True
            self._tell(f"{service.name} is ready")


async def _answers(session: aiohttp.ClientSession, address: str | None) -> bool:
    if address is None:
        return True
    try:
        async with session.get(address, allow_redirects=False) as answer:
            return answer.status < 500
    except (aiohttp.ClientError, OSError):
        return False
