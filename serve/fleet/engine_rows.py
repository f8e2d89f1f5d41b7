"""The statuses that the supervisor publishes: of each engine, and of each adapter on the engines that serve it."""

from collections.abc import Iterable

from models.spec import LONGEST_REPLICATED_ID
from serve.fleet.engine_states import EngineStatus
from serve.fleet.managed_engine import ManagedEngine
from serve.fleet.replica_names import replica_name
from serve.fleet.replicas import Replicas


def engine_rows(engines: Iterable[ManagedEngine], replicas: Replicas) -> dict[str, EngineStatus]:
    """Name → status, of desired engines and their adapters. An adapter has a row for each replica that serves it."""
    rows: dict[str, EngineStatus] = {}
    for engine in engines:
        if engine.name not in replicas.desired.engines:
            continue
        address = engine.endpoint.address if engine.endpoint and engine.state == "ready" else None
        pid = engine.process.pid if engine.process else None
        rows[engine.name] = EngineStatus(engine.name, engine.state, address, pid, engine.message, engine.memory_bytes)
        for adapter in replicas.adapters_wanted_on(engine):
            # A number does not fit after the longest names, whose adapters are on one replica only.
            name = adapter if len(adapter) > LONGEST_REPLICATED_ID else replica_name(adapter, engine.number)
            rows[name] = _adapter_row(name, adapter, engine, address, pid)
    return rows


def _adapter_row(name: str, adapter: str, engine: ManagedEngine, address: str | None, pid: int | None) -> EngineStatus:
    loaded = engine.adapters.get(adapter)
    if engine.embeds:
        return EngineStatus(name, "failed", message=f"{engine.spec.id} makes embeddings and takes no adapters")
    if engine.refuses_adapters:
        # Registered by an earlier version, which did not refuse such adapters.
        return EngineStatus(name, "failed", message=f"{engine.refuses_adapters}: merge it with `parley merge`")
    if loaded is None:
        return EngineStatus(name, engine.state if engine.state != "ready" else "starting", message=engine.message)
    ready = loaded.state == "ready"
    return EngineStatus(name, loaded.state, address if ready else None, pid, loaded.message)
