"""`gateway_workers = 2` as processes: one port, one set of limits and metrics, and a kill that costs few requests."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil
import pytest

from models.database import Database
from models.keys import KeyLimits, create_key
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from models.usage import read_usage
from serve.gateway.server import worker_settings
from serve.processes import guardian
from tests.serve.paced_upstream import PacedUpstream
from tests.stack import ROOT, free_ports

BODY = orjson.dumps({"model": "whole", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4})


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def gateways(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`parley gateway`, with all of its processes."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "parley", "gateway"],
            env=child_environment(settings), cwd=ROOT, stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        until(lambda: log.read_text().count("is ready") == 2 or process.poll() is not None, "not ready")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait(10)


def workers(root: int) -> list[int]:
    """The pids of the gateway processes."""
    pids = []
    for pid in guardian.descendants(root):
        line = psutil.Process(pid).cmdline()
        if line[1:4] == ["-m", "parley", "gateway"]:
            pids.append(pid)
    return pids


def request(settings: Settings, path: str, secret: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and body of a request on a connection of its own."""
    address = f"http://127.0.0.1:{settings.port}{path}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(
                address, body, {"authorization": f"Bearer {secret}", "content-type": "application/json"}
            ),
            timeout=20,
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_each_process_has_a_part_of_what_may_run_and_wait(settings: Settings) -> None:
    assert worker_settings(settings) is settings
    three = worker_settings(settings.model_copy(update={"gateway_workers": 3, "queue_size": 10}))
    assert (three.running_per_model, three.queue_size) == (342, 4)
    assert three.max_bodies_mib == pytest.approx(settings.max_bodies_mib / 3)


@pytest.mark.long
def test_two_processes_are_like_one(
    settings: Settings, database: Database, upstream: PacedUpstream, tmp_path: Path
) -> None:
    settings = load_settings(home=settings.home, gateway_workers=2, port=free_ports(1)[0])
    there = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="whole", kind="hosted", upstream=there))
    owner = create_key(database, name="boss", role="owner")
    limited = create_key(database, name="app", role="client", limits=KeyLimits(requests_per_minute=60))
    log = tmp_path / "gateway.log"
    with gateways(settings, log) as process:
        pids = workers(process.pid)
        assert len(pids) == 2
        began = time.monotonic()
        statuses = Counter(request(settings, "/v1/chat/completions", limited, BODY)[0] for _ in range(80))
        assert 57 <= statuses[200] <= 61 + time.monotonic() - began
        assert statuses[429] == 80 - statuses[200]

        def counted(code: int) -> int:
            text = request(settings, "/metrics", owner)[1].decode()
            pattern = rf'^parley_requests_total{{code="{code}".*route="/v1/chat/completions"}} (\d+)'
            return sum(int(float(value)) for value in re.findall(pattern, text, re.MULTILINE))

        # Any process may answer.
        assert {counted(200) for _ in range(6)} == {statuses[200]}
        assert counted(429) == statuses[429]
        logs = [settings.logs_dir / name for name in ("access.log", "access-2.log")]
        until(lambda: all(path.exists() for path in logs), "each process has a log")
        stored = lambda: sum(row.sums.requests for row in read_usage(database))  # noqa: E731 -- used twice
        until(lambda: stored() == 80, "what a kill would lose")
        os.kill(pids[0], signal.SIGKILL)
        answers = [request(settings, "/v1/chat/completions", owner, BODY)[0] for _ in range(20)]
        assert answers == [200] * 20
        until(lambda: len(set(workers(process.pid)) - {pids[0]}) == 2, "the killed one came back")
        until(lambda: log.read_text().count("is ready") == 3, "the killed one is ready")
        assert {counted(200) for _ in range(6)} == {statuses[200] + 20}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    shares = [len(path.read_text().splitlines()) for path in logs]
    assert min(shares) > sum(shares) / 5
    assert stored() == 100
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
