"""A process that a signal stops is noticed while a probe waits for its answer.

test_stack.py sends signals to a whole Parley with real engines; `python -m bench.faults` sends twenty.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from serve.fleet import engine_lifecycle
from serve.launcher import services
from serve.launcher.services import Service, Services
from serve.processes import guardian
from serve.processes.children import Command
from tests.serve.test_engine_lifecycle import start  # noqa: F401 -- a fixture
from tests.stack import free_ports

# Answers the first request; at the second it stops itself, like a SIGSTOP in the middle of a probe.
STOPS_ITSELF = """
import http.server, os, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    requests = 0
    def do_GET(self):
        Answer.requests += 1
        if Answer.requests > 1: os.kill(os.getpid(), signal.SIGSTOP)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.mark.long
async def test_a_service_that_is_stopped_in_the_middle_of_a_probe_is_started_again_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_PROBE_S", 0.2)
    (port,) = free_ports(1)
    command = Command("stops", (sys.executable, "-S", "-c", STOPS_ITSELF, str(port)), dict(os.environ), grace_s=0.5)
    lines: list[tuple[float, str]] = []
    enough = asyncio.Event()

    def report(line: str) -> None:
        lines.append((time.monotonic(), line))
        if len(lines) == 3:  # ready, stopped, ready
            enough.set()

    watched = Services([Service(command, f"http://127.0.0.1:{port}/")], tmp_path, report)
    running = asyncio.create_task(watched.run())
    try:
        async with asyncio.timeout(20):
            await enough.wait()
    finally:
        running.cancel()
        await asyncio.to_thread(watched.stop)
    assert "stopped by a signal" in lines[1][1]
    assert lines[1][0] - lines[0][0] < 4
    assert "ready" in lines[2][1]


@pytest.mark.long
async def test_an_engine_that_is_stopped_in_the_middle_of_a_probe_is_started_again_within_seconds(
    start,  # noqa: F811 -- the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_lifecycle, "_PROBE_INTERVAL_S", 0.05)
    async with start() as fleet:
        fleet.add("one")
        await fleet.ready("one")
        (keeper,) = fleet.supervisor.guardians
        (program,) = guardian.descendants(keeper)
        os.kill(program, signal.SIGSTOP)
        assert await fleet.until(lambda states: states["one"].state != "ready") < 4
        await fleet.ready("one")
        assert await fleet.say("one") == "a"
