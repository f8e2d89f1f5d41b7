"""`parley up --on`: a chat through a cluster, and nothing left when the command is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest

from bench.cluster.nodes import Nodes
from bench.replicas.deployment import STAND_IN, weights
from models.database import open_database, upgrade
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet.vllm_command import free_port
from serve.processes.children import ROOT
from tests.cluster.conftest import marked

pytestmark = pytest.mark.long

UP = f"""
from serve.fleet import vllm_command
vllm_command.MODULE = {STAND_IN!r}
from parley import main
main()
"""


@contextmanager
def up(settings: Settings, on: str) -> Iterator[subprocess.Popen[bytes]]:
    """`parley up --on` with stand-ins."""
    command = [sys.executable, "-c", UP, "up", "--no-page", "--no-worker", "--on", on]
    with (settings.home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=child_environment(settings), cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def prepared(nodes: Nodes, home: Path) -> Settings:
    """A home with a model that needs two engines."""
    settings = load_settings(home=home, port=free_port(), device="cpu", cpu_kv_cache_gib=0.25)
    upgrade(settings)
    database = open_database(settings)
    options = EngineOptions(replicas=2, extra_args=("--fake-child",))
    Registry(database).register(ModelSpec(id="m", kind="base", path=str(weights(home)), engine=options))
    database.dispose()
    return settings


def answers(settings: Settings) -> bool:
    client = openai.OpenAI(base_url=settings.gateway_url, api_key="any", max_retries=0)
    try:
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    except openai.APIError:
        return False
    return answer.choices[0].message.content == "a"


@pytest.mark.parametrize("address", ["auto", "ray://127.0.0.1:10001"])
def test_it_answers_and_leaves_nothing_when_it_stops_or_is_killed(prepared: Settings, address: str) -> None:
    log = prepared.home / "up.log"
    with up(prepared, address) as process:
        wait(lambda: process.poll() is not None or b"m#2 is ready" in log.read_bytes())
        assert process.poll() is None, log.read_text()
        assert answers(prepared)
        assert len([pid for pid in marked(prepared.home) if "sleep" in psutil.Process(pid).name()]) == 2
        if address == "auto":
            process.kill()
        else:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        wait(lambda: not marked(prepared.home))
    assert os.path.exists(prepared.home / "logs" / "engine-m.log")


def test_a_wrong_address_or_token_is_one_line(
    prepared: Settings, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another-token-than-the-clusters")
    with up(prepared, "auto") as process:
        assert process.wait(60) == 1
    text = (prepared.home / "up.log").read_text()
    assert "The Ray cluster at auto cannot be used" in text
    assert "Traceback" not in text
