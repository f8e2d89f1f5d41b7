"""A `parley gateway` process over a PARLEY_HOME of its own, and engines that exist only as rows in its database."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from models.database import Database, open_database, upgrade
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from serve.fleet.engine_states import EngineStatus, write_statuses
from serve.fleet.vllm_command import free_port

_TIMEOUT_S = 60.0


class GatewayProcess:
    """A gateway process that runs inside the `with` block, with its database open."""

    def __init__(self, home: Path, **settings: Any) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.settings: Settings = load_settings(home=home, port=free_port(), log_level="warning", **settings)
        self.base_url = self.settings.gateway_url
        upgrade(self.settings)
        self.database: Database = open_database(self.settings)
        self.log = home / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Starts the process, and returns once it answers."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "parley", "gateway"],
                env=child_environment(self.settings, PYTHONUNBUFFERED="1"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.wait_until(lambda: self.get("/health") is not None)

    def kill(self) -> None:
        """Ends the process by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
        self.database.dispose()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def get(self, path: str) -> bytes | None:
        """The body of a GET, without `/v1` before the path; None where it fails."""
        address = self.base_url.removesuffix("/v1") + path
        try:
            with urllib.request.urlopen(address, timeout=5) as response:  # noqa: S310 -- our own gateway on loopback
                return response.read()
        except OSError:
            return None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition.

        Raises:
            RuntimeError: the gateway has ended, or the condition does not hold in time.
        """
        assert self._process is not None
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The gateway is not ready: {self.log.read_text('utf-8', 'replace')[-500:]}")
            time.sleep(0.05)


def register_engine(settings: Settings, database: Database, name: str, address: str) -> None:
    """Registers a base model whose engine counts as ready at `address` (without `/v1`). No engine is started."""
    weights = settings.home / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "model.safetensors").touch()
    # The address first: a gateway that sees the model also sees its engine.
    write_statuses(database, [EngineStatus(name, "ready", address)])
    Registry(database).register(ModelSpec(id=name, kind="base", path=str(weights)))
