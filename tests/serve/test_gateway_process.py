"""`parley gateway` as a process: its log line without keys, and a stop that loses no usage."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from models.database import Database
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from models.usage import Sums, read_usage
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_inference_handler import HELLO
from tests.stack import ROOT, free_ports

pytestmark = pytest.mark.long


@contextmanager
def gateway(settings: Settings, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and its root address."""
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OPENAI_"))}
    environment |= {"PARLEY_HOME": str(settings.home), "PARLEY_PORT": str(port)}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "parley", "gateway"], env=environment, cwd=ROOT, stdout=stream, stderr=stream
        )
    try:
        deadline = time.monotonic() + 20
        while not _healthy(root := f"http://127.0.0.1:{port}"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.05)
        yield process, root
    finally:
        process.kill()
        process.wait(10)


def _healthy(root: str) -> bool:
    try:
        with urllib.request.urlopen(f"{root}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_it_says_that_there_is_no_key_and_a_stop_loses_no_usage(
    settings: Settings, database: Database, upstream: PacedUpstream, tmp_path: Path
) -> None:
    there = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="whole", kind="hosted", upstream=there))
    log = tmp_path / "gateway.log"
    with gateway(settings, log) as (process, root):
        client = openai.OpenAI(base_url=f"{root}/v1", api_key="any")
        for _ in range(3):
            client.chat.completions.create(model="whole", messages=HELLO)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, 128 + signal.SIGTERM)
    assert [row.sums for row in read_usage(database)] == [Sums(3, 0, 21, 12)]
    assert len((settings.logs_dir / "access.log").read_text().splitlines()) >= 3
    printed = log.read_text()
    assert "No key is configured: the gateway listens on 127.0.0.1 only" in printed
    assert printed.count("No key is configured") == 1


def test_a_kill_loses_a_second_at_the_most(
    settings: Settings, database: Database, upstream: PacedUpstream, tmp_path: Path
) -> None:
    there = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="whole", kind="hosted", upstream=there))
    with gateway(settings, tmp_path / "gateway.log") as (process, root):
        client = openai.OpenAI(base_url=f"{root}/v1", api_key="any")
        client.chat.completions.create(model="whole", messages=HELLO)
        time.sleep(1.5)
        process.kill()
    assert [row.sums.requests for row in read_usage(database)] == [1]


def test_with_a_key_it_says_nothing_of_it(settings: Settings, database: Database, tmp_path: Path) -> None:
    create_key(database, name="me", role="owner")
    log = tmp_path / "gateway.log"
    with gateway(settings, log):
        assert "No key" not in log.read_text()
