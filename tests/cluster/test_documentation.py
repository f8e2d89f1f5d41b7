"""docs/scaling.md as written: two Ray nodes on this machine, and a chat with a real engine on the second.

It runs before the tests that share a cluster: its `ray stop` ends all Ray processes of the machine.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.cluster.nodes import ray_is_installed
from serve.fleet.vllm_command import free_port
from serve.processes.children import ROOT
from tests.cluster.conftest import marked
from tests.cluster.test_up import wait

pytestmark = pytest.mark.long

_HEADING = "#### Two nodes on one machine"
_START_S = 150.0


def ray_processes() -> list[str]:
    names = ("raylet", "gcs_server")
    running = psutil.process_iter(["name", "status"])
    return [process.info["name"] for process in running if process.info["name"] in names
            and process.info["status"] != psutil.STATUS_ZOMBIE]  # fmt: skip


@pytest.fixture
def commands(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The page's two terminals, with a home and a port of the test's own."""
    if not ray_is_installed() or not (ROOT / ".ray" / "bin" / "ray").exists():
        pytest.skip("Ray is not installed: run `make test-cluster`.")
    if ray_processes():
        pytest.skip("Ray runs on this machine already, and `ray stop` would end it.")
    section = (ROOT / "docs" / "scaling.md").read_text().partition(_HEADING)[2].partition("\n#")[0]
    port = free_port()
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray's token is
    monkeypatch.setenv("PARLEY_PORT", str(port))
    yield [
        block.replace("/tmp/two-nodes", str(home)).replace(":8000", f":{port}")
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    ]
    subprocess.run([ROOT / ".ray" / "bin" / "ray", "stop", "--force"], capture_output=True, check=False)


def test_a_new_user_gets_a_chat_from_the_second_node(commands: list[str], home: Path) -> None:
    first, second = commands
    assert "\npython -m parley serve" in first
    log = home.parent / "first-terminal.log"
    with log.open("wb") as output:
        command = first.replace("\npython -m", "\nexec python -m")
        parley = subprocess.Popen(["bash", "-ec", command], cwd=ROOT, stdout=output, stderr=output)
    try:
        wait(lambda: parley.poll() is not None or b"friendly is ready" in log.read_bytes(), _START_S)
        assert "demo-base is starting on 127.0.0.2" in log.read_text()
        lines = subprocess.check_output(["bash", "-ec", second.replace("}'\n", "}'; echo\n")], cwd=ROOT, text=True)
        *answers, address = lines.splitlines()[:3]
        models = [json.loads(answer) for answer in answers]
        assert [answer["model"] for answer in models] == ["demo-base", "friendly"]
        texts = [answer["choices"][0]["message"]["content"] for answer in models]
        assert all(texts)
        assert texts[0] != texts[1]
        assert address.startswith('"address": "http://127.0.0.2:')
        parley.send_signal(signal.SIGINT)
        assert parley.wait(30) == 0
        assert marked(home) == []
        subprocess.run([ROOT / ".ray" / "bin" / "ray", "stop"], capture_output=True, check=True)
        assert ray_processes() == []
    finally:
        if parley.poll() is None:
            os.kill(parley.pid, signal.SIGKILL)
            parley.wait()
