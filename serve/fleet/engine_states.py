"""The states of models and the engines' key, which the supervisor writes and the gateway reads. It knows no processes.

Every write that the gateway must notice raises the registry's revision in the same transaction.
"""

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import delete, select

from models.audit import record_change
from models.database import Database, utcnow
from models.errors import Conflict, Invalid
from models.registry.registry import Registry, bump_revision
from models.spec import ModelSpec
from serve.fleet.replica_names import model_of, replica_number
from serve.tables import DemandRow, EngineRow

EngineState = Literal["starting", "ready", "stopped", "failed"]
BEST_FIRST: tuple[EngineState, ...] = ("ready", "starting", "stopped", "failed")
STARTING = "starting"  # the message of an engine that starts for the first time, or after a stop that was asked for


@dataclass(frozen=True)
class ModelState:
    """The state of a model, with an optional explanation."""

    state: EngineState
    message: str = ""


@dataclass(frozen=True)
class EngineStatus:
    """The state of a model on one engine. `address`: `http://127.0.0.1:port`, set while the model is ready.

    `name`: the model's id, with the replica's number as in `serve.fleet.replica_names`. `memory_bytes`: the engine's
    planned memory. `since`: when the state began; set by `write_statuses`.
    """

    name: str
    state: EngineState
    address: str | None = None
    pid: int | None = None
    message: str = ""
    memory_bytes: int | None = None
    since: datetime | None = field(default=None, compare=False)


def read_statuses(database: Database) -> dict[str, EngineStatus]:
    """Name of a model or replica → the status that the supervisor last wrote."""
    with database.read() as session:
        rows = session.scalars(select(EngineRow))
        return {
            row.model_id: EngineStatus(
                row.model_id,
                cast(EngineState, row.state),
                row.address,
                row.pid,
                row.message,
                row.memory_bytes,
                row.since,
            )
            for row in rows
        }


def write_statuses(database: Database, models: Iterable[EngineStatus]) -> None:
    """Stores some states in one transaction."""
    with database.write() as session:
        now = utcnow()
        for status in models:
            row = session.get(EngineRow, status.name)
            if row is None:
                row = EngineRow(model_id=status.name)
                session.add(row)
            row.since = row.since if row.state == status.state else now
            row.state, row.address, row.pid, row.message = status.state, status.address, status.pid, status.message
            row.memory_bytes, row.updated = status.memory_bytes, now
        bump_revision(session)


def delete_statuses(database: Database, names: Iterable[str] | None = None) -> None:
    """Deletes the rows of some models and replicas, or all rows before a start and after a stop."""
    query = delete(EngineRow)
    if names is not None:
        query = query.where(EngineRow.model_id.in_(list(names)))
    with database.write() as session:
        session.execute(query)
        bump_revision(session)


def model_states(database: Database) -> dict[str, ModelState]:
    """Model id → state, for every model. Hosted models are always ready."""
    return combine_states(Registry(database).list(include_candidates=True), read_statuses(database))


def replicas_of(rows: Mapping[str, EngineStatus]) -> dict[str, list[EngineStatus]]:
    """Model id → the statuses of its replicas, by their numbers."""
    replicas: dict[str, list[EngineStatus]] = {}
    for name in sorted(rows, key=replica_number):
        replicas.setdefault(model_of(name), []).append(rows[name])
    return replicas


def combine_states(specs: Iterable[ModelSpec], rows: Mapping[str, EngineStatus]) -> dict[str, ModelState]:
    """Model id → state, from specs and rows that were already read. With several replicas, the best of their states."""
    states, replicas = {}, replicas_of(rows)
    for spec in specs:
        known = replicas.get(spec.id)
        if spec.kind == "hosted":
            states[spec.id] = ModelState("ready")
        elif known is None:
            states[spec.id] = ModelState("stopped", "its engine is not running")
        else:
            states[spec.id] = _combine(known) if len(known) > 1 else ModelState(known[0].state, known[0].message)
    return states


def best_states(rows: Mapping[str, EngineStatus]) -> dict[str, EngineState]:
    """Model id → the best state of its replicas."""
    return {
        name: min((status.state for status in replicas), key=BEST_FIRST.index)
        for name, replicas in replicas_of(rows).items()
    }


def _combine(replicas: Sequence[EngineStatus]) -> ModelState:
    """The state of a model with several replicas, with the message of the first that is not ready."""
    best = min((status.state for status in replicas), key=BEST_FIRST.index)
    waiting = [status for status in replicas if status.state != "ready"]
    if not waiting:
        return ModelState("ready")
    message = f"{len(replicas) - len(waiting)} of {len(replicas)} replicas are ready"
    first = waiting[0].message
    return ModelState(best, f"{message}; {waiting[0].name}: {first}" if first else message)


def record_demand(database: Database, model_id: str) -> None:
    """Records that a model was requested while it was not running."""
    with database.write() as session:
        session.merge(DemandRow(model_id=model_id, requested=utcnow(), wanted="run"))


def load_model(database: Database, name: str) -> ModelSpec:
    """Requests that a model's engine start, as a client's request does; returns the model.

    Raises:
        NotFound: no model has that name. Invalid: it is hosted.
    """
    spec = Registry(database).resolve(name)
    if spec.kind == "hosted":
        raise Invalid(
            f"{spec.id!r} is a hosted model without an engine: only local models can be loaded.", param="model"
        )
    with database.write() as session:
        session.merge(DemandRow(model_id=spec.id, requested=utcnow(), wanted="run"))
        record_change(session, "model.load", spec.id)
    return spec


def unload_model(database: Database, name: str) -> ModelSpec:
    """Requests that a model's engine stop until the next request for the model; returns the model.

    Raises:
        NotFound: no model has that name. Invalid: it has no engine of its own. Conflict: it is pinned.
    """
    registry = Registry(database)
    spec = registry.resolve(name)
    if spec.kind == "hosted":
        raise Invalid(
            f"{spec.id!r} is a hosted model without an engine: only local models can be unloaded.", param="model"
        )
    if spec.kind == "adapter":
        raise Invalid(f"{spec.id!r} runs on the engine of {spec.base!r}: unload {spec.base!r} instead.", param="model")
    if spec.id in registry.pinned():
        raise Conflict(f"{spec.id!r} is pinned, so its engine stays in memory: unpin it first.", param="model")
    with database.write() as session:
        session.merge(DemandRow(model_id=spec.id, requested=utcnow(), wanted="sleep"))
        record_change(session, "model.unload", spec.id)
    return spec


def record_spread(database: Database, adapter: str) -> None:
    """Requests that an adapter be loaded on one more replica of its base."""
    with database.write() as session:
        session.merge(DemandRow(model_id=adapter, requested=utcnow(), wanted="spread"))


def record_use(database: Database, adapter: str) -> None:
    """Reports that an adapter on several replicas is still requested."""
    with database.write() as session:
        session.merge(DemandRow(model_id=adapter, requested=utcnow(), wanted="use"))


def take_sleep_requests(database: Database) -> set[str]:
    """The ids of models that were unloaded since the last call. Deletes these requests."""
    return _take_requests(database, "sleep")


def take_spread_requests(database: Database) -> set[str]:
    """The ids of adapters that were requested on another replica since the last call. Deletes these requests."""
    return _take_requests(database, "spread")


def take_use_reports(database: Database) -> set[str]:
    """The ids of adapters that `record_use` was called for since the last call. Deletes these reports."""
    return _take_requests(database, "use")


def _take_requests(database: Database, wanted: str) -> set[str]:
    with database.read() as session:
        names = set(session.scalars(select(DemandRow.model_id).where(DemandRow.wanted == wanted)))
    if names:
        with database.write() as session:
            session.execute(delete(DemandRow).where(DemandRow.wanted == wanted, DemandRow.model_id.in_(names)))
    return names


def read_demand(database: Database, within: timedelta) -> dict[str, datetime]:
    """The models that were requested in vain within a time span, each with the last time."""
    query = select(DemandRow).where(DemandRow.wanted == "run", DemandRow.requested > utcnow() - within)
    with database.read() as session:
        return {row.model_id: row.requested for row in session.scalars(query)}


def read_key(home: Path) -> str:
    """The engines' key of this run, from a file that only the home's owner can read."""
    try:
        return (home / "engine.key").read_text("ascii")
    except OSError:
        return ""


def engine_key(key: str, engine: str) -> str:
    """The key of one engine, so that no engine learns another's. Without `key`, the key of this run, empty."""
    return hmac.new(key.encode(), engine.encode(), "sha256").hexdigest() if key else ""


def write_key(home: Path, key: str) -> None:
    """Stores the engines' key for the gateway with mode 0600."""
    path = home / "engine.key"
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(key)
