"""The gateway process of the path part: models are added while it runs, and its memory and sockets show leaks."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.faults.upstream_faults import Model
from bench.gateway_process import GatewayProcess, register_engine
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream


@dataclass(frozen=True)
class Resources:
    """What the gateway's process holds: its private memory in MiB, sockets, requests in flight."""

    memory_mib: float
    sockets: int
    in_flight: int


class FaultGateway(GatewayProcess):
    """A gateway to which the cases' models are added."""

    def add(self, models: Sequence[Model]) -> None:
        """Registers the models; returns when the gateway lists them."""
        registry = Registry(self.database)
        for model in models:
            if model.hosted:
                upstream = Upstream(base_url=f"{model.address}/v1", model=model.name)
                registry.register(ModelSpec(id=model.name, kind="hosted", upstream=upstream, fallbacks=model.fallbacks))
            else:
                register_engine(self.settings, self.database, model.name, model.address)
        self.wait_until(lambda: all(f'"{model.name}"'.encode() in (self.get("/v1/models") or b"") for model in models))

    def resources(self) -> Resources:
        """What the process holds now, by the kernel and by its own metrics."""
        metrics = (self.get("/metrics") or b"").decode()
        in_flight = re.search(r"^parley_requests_in_flight\S* (\d+)", metrics, re.MULTILINE)
        links = [os.readlink(path) for path in Path(f"/proc/{self.pid}/fd").iterdir() if path.is_symlink()]
        return Resources(
            memory_mib=round(psutil.Process(self.pid).memory_full_info().uss / 2**20, 1),
            sockets=sum(link.startswith("socket:") for link in links),
            in_flight=int(in_flight[1]) - 1 if in_flight else -1,  # without this request for the metrics
        )
