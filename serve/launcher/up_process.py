"""`parley up` as a separate process, for tests, benches and programs: start, wait until ready, stop."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from models.errors import ParleyError, Unavailable
from models.home.instance import read_state
from models.settings.environment import child_environment
from models.settings.settings import Settings
from serve.processes.children import ROOT
from serve.processes.logs import tail


class Running:
    """A started Parley. A context manager: leaving the block stops it."""

    def __init__(self, settings: Settings, process: "subprocess.Popen[bytes]") -> None:
        self.settings = settings
        self.process = process
        self.base_url = settings.gateway_url
        self.page_url = settings.page_url
        self.log = settings.logs_dir / "up.log"

    @property
    def pid(self) -> int:
        """The parent's pid."""
        return self.process.pid

    def state(self) -> dict[str, Any] | None:
        """This parent's own status, see `serve.launcher.parent`; None before its first report."""
        state = read_state(self.settings)
        return state if state and state["pid"] == self.process.pid else None

    def wait_ready(self, timeout_s: float = 180.0) -> "Running":
        """Waits until gateway, page, worker and every engine are ready.

        Raises:
            ParleyError: it ended, with its last line; Unavailable: it is not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                lines = tail(self.log).strip().splitlines()
                raise ParleyError(lines[-1] if lines else f"Parley ended with status {self.process.returncode}.")
            state = self.state()
            if state and state["ready"]:
                return self
            time.sleep(0.1)
        raise Unavailable(f"Parley was not ready within {timeout_s:.0f} s: see {self.log}.")

    def stop(self, timeout_s: float | None = None) -> int:
        """Stops it as Ctrl-C does; returns the exit status. After `timeout_s` (None: its own grace) it is killed."""
        timeout_s = self.settings.stop_grace_s + 15 if timeout_s is None else timeout_s
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to the parent; its guardians take the rest along."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    settings: Settings,
    *,
    command: str = "up",
    page: bool = True,
    worker: bool = True,
    arguments: Sequence[str] = (),
) -> Running:
    """Starts `parley up` (or `parley demo`) with these settings. Its output goes to `logs/up.log` in the home."""
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    flags = [*["--no-page"] * (not page), *["--no-worker"] * (not worker), *arguments]
    with (settings.logs_dir / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "parley", command, *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(settings, PYTHONUNBUFFERED="1"),
            cwd=ROOT,
            start_new_session=True,
        )
    return Running(settings, process)
