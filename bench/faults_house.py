"""A `parley gateway` of the fault bench's own, as users run it: a process over a home, with models where it is told.

It measures what the process holds (memory, sockets, requests in flight), so that a leak shows. It breaks nothing.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.faults_path import Model
from models.database import open_database, upgrade
from models.registry import Registry
from models.settings import Settings, child_environment, load_settings
from models.spec import ModelSpec, Upstream
from serve.fleet.engine_states import EngineStatus, write_statuses
from serve.fleet.vllm_command import free_port

_READY_WITHIN_S = 60.0


@dataclass(frozen=True)
class Held:
    """What the gateway's process holds: memory of its own in MiB, sockets, requests that it works on."""

    memory_mib: float
    sockets: int
    in_flight: int


class GatewayHouse:
    """A gateway process. A context manager: it runs inside the block."""

    def __init__(self, home: Path, **chosen: Any) -> None:
        self.settings: Settings = load_settings(home=home, port=free_port(), log_level="warning", **chosen)
        self.base_url = self.settings.gateway_url
        upgrade(self.settings)
        self.database = open_database(self.settings)
        self._log = (home / "gateway.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "GatewayHouse":
        environment = child_environment(self.settings)
        command = [sys.executable, "-m", "parley", "gateway"]
        self._process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=self._log)
        self._until(lambda: self._get("/health") is not None)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
        self.database.dispose()
        self._log.close()

    @property
    def pid(self) -> int:
        """The gateway's."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the gateway wrote."""
        return (self.settings.home / "gateway.log").read_text("utf-8")

    def add(self, models: Sequence[Model]) -> None:
        """Registers models, and returns once the gateway lists them."""
        weights = self.settings.home / "weights"
        weights.mkdir(exist_ok=True)
        (weights / "model.safetensors").touch()
        # The engines' addresses first: whoever sees the last model registered sees them.
        write_statuses(
            self.database, [EngineStatus(one.name, "ready", one.address) for one in models if not one.hosted]
        )
        registry = Registry(self.database)
        for one in models:
            if one.hosted:
                upstream = Upstream(base_url=f"{one.address}/v1", model=one.name)
                registry.register(ModelSpec(id=one.name, kind="hosted", upstream=upstream, fallbacks=one.fallbacks))
            else:
                registry.register(ModelSpec(id=one.name, kind="base", path=str(weights)))
        self._until(lambda: all(f'"{one.name}"'.encode() in (self._get("/v1/models") or b"") for one in models))

    def held(self) -> Held:
        """Looks at the process, and asks it for its own figures."""
        process = psutil.Process(self.pid)
        text = (self._get("/metrics") or b"").decode()
        found = re.search(r"^parley_requests_in_flight\S* (\d+)", text, re.MULTILINE)
        links = [os.readlink(path) for path in Path(f"/proc/{self.pid}/fd").iterdir() if path.is_symlink()]
        return Held(
            memory_mib=round(process.memory_full_info().uss / 2**20, 1),
            sockets=sum(link.startswith("socket:") for link in links),
            in_flight=int(found[1]) - 1 if found else -1,  # this very question is one
        )

    def _get(self, path: str) -> bytes | None:
        try:
            # Our own gateway on loopback.
            with urllib.request.urlopen(self.base_url.removesuffix("/v1") + path, timeout=5) as answer:  # noqa: S310 -- ours
                return answer.read()
        except OSError:
            return None

    def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while not condition():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway is not there: {self.log[-500:]}")
            time.sleep(0.05)
