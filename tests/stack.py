"""A whole Parley for the tests: `parley demo` or `parley up` as a process of its own, on free ports and an empty home."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.database import Database, open_database
from models.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stack:
    """What is running, and how to reach it."""

    settings: Settings
    database: Database
    process: subprocess.Popen[str]
    output: Path

    @property
    def gateway_url(self) -> str:
        return self.settings.gateway_url

    @property
    def page_url(self) -> str:
        return self.settings.page_url

    def states(self, key: str | None = None) -> dict[str, str]:
        """Each listed model's state, as the gateway tells it; empty while the gateway is not there."""
        request = urllib.request.Request(
            f"{self.gateway_url}/models", headers={"authorization": f"Bearer {key}"} if key else {}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return {model["id"]: model["parley"]["state"] for model in json.load(answer)["data"]}
        except (urllib.error.URLError, OSError):
            return {}

    def wait_ready(self, models: Sequence[str], timeout_s: float = 240, key: str | None = None) -> None:
        """Waits until these models are ready and the page answers."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"parley ended with {self.process.returncode}:\n{self.output.read_text()}")
            states = self.states(key)
            if all(states.get(model) == "ready" for model in models) and answers(self.page_url + "/vote"):
                return
            time.sleep(0.3)
        raise AssertionError(f"not ready after {timeout_s} s: {self.states(key)}\n{self.output.read_text()}")

    def stop(self, timeout_s: float = 30) -> int:
        """Ctrl-C; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextmanager
def running(home: Path, *arguments: str, **environment: str) -> Iterator[Stack]:
    """`parley ARGUMENTS` over `home`, on free ports, stopped at the end."""
    port, page_port = free_ports(2)
    settings = load_settings(home=home, port=port, page_port=page_port)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OPENAI_"))}
    own |= {"PARLEY_HOME": str(home), "PARLEY_PORT": str(port), "PARLEY_PAGE_PORT": str(page_port)} | environment
    home.mkdir(parents=True, exist_ok=True)
    output = home.with_name(f"{home.name}-output.txt")
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "parley", *arguments], env=own, cwd=ROOT, stdout=file, stderr=file, text=True
        )
    database = open_database(settings)
    stack = Stack(settings, database, process, output)
    try:
        yield stack
    finally:
        stack.stop()
        database.dispose()


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(url: str) -> bool:
    """Whether a GET of `url` gets a good answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
