"""Our own processes: one that ends, hangs or is stopped by a signal is restarted; a stop lets answers end."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serve.launcher import services
from serve.launcher.services import Service, Services
from serve.processes.children import Command
from tests.stack import free_ports

# A server that answers 200, until SIGUSR1 makes it hang idle, or SIGUSR2 hang busy.
SERVER = """
import http.server, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
def hang(*_): time.sleep(300)
def work(*_):
    until = time.monotonic() + 4
    while time.monotonic() < until: pass
signal.signal(signal.SIGUSR1, hang); signal.signal(signal.SIGUSR2, work)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@asynccontextmanager
async def running(tmp_path: Path, lines: list[str]) -> AsyncIterator[Service]:
    (port,) = free_ports(1)
    command = Command("server", (sys.executable, "-c", SERVER, str(port)), dict(os.environ), grace_s=0.5)
    keeper = Services([Service(command, f"http://127.0.0.1:{port}/")], tmp_path, lines.append)
    task = asyncio.create_task(keeper.run())
    try:
        await until(keeper.ready)
        yield keeper.all[0]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(keeper.stop)


async def until(condition: Callable[[], bool], timeout_s: float = 15) -> float:
    began = time.monotonic()
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- processes tell no event
            await asyncio.sleep(0.02)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks and probes ten times as often."""
    for name in ("_LOOK_S", "_PROBE_S", "_PROBE_TIMEOUT_S"):
        monkeypatch.setattr(services, name, getattr(services, name) / 10)


async def back(service: Service, number: int) -> float:
    """Seconds from the signal until another process answers in its place."""
    assert service.process is not None
    before = service.process.pid
    program = service.process.program_pid
    assert program is not None
    os.kill(program, number)
    return await until(lambda: bool(service.ready and service.process and service.process.pid != before))


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was ended by SIGKILL (Killed)"),
        (signal.SIGSTOP, "stopped by a signal"),
        (signal.SIGUSR1, "stopped answering"),
    ],
)
async def test_a_process_that_is_gone_stopped_or_hangs_is_restarted(tmp_path: Path, number: int, words: str) -> None:
    lines: list[str] = []
    async with running(tmp_path, lines) as service:
        took = await back(service, number)
        assert any(words in line for line in lines), lines
        assert took < 6


@pytest.mark.long
async def test_one_that_is_busy_is_left_alone(tmp_path: Path) -> None:
    lines: list[str] = []
    async with running(tmp_path, lines) as service:
        assert service.process is not None
        before, program = service.process.pid, service.process.program_pid
        assert program is not None
        os.kill(program, signal.SIGUSR2)
        await until(lambda: service.missed_probes > 0)
        await until(lambda: service.missed_probes == 0)
        assert service.process.pid == before
        assert not any("restarting" in line for line in lines)


@pytest.mark.long
async def test_a_service_that_was_ready_is_back_soon_however_often_it_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, []) as service:
        waits = [await back(service, signal.SIGKILL) for _ in range(6)]
    assert max(waits) < 6, waits
