"""An immutable snapshot of models, their addresses and keys, and the thread that replaces it when the registry changes.

A request uses one snapshot from start to end.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from models.database import Database, utcnow
from models.errors import ParleyError
from models.keys import KeyInfo, active_keys, key_digest, keys_configured
from models.registry.mapped_models import find_mapped_model
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from serve.batches.credentials import BatchTokens
from serve.fleet import engine_states
from serve.fleet.capabilities import Capabilities, read_capabilities
from serve.fleet.engine_states import EngineStatus, ModelState
from serve.fleet.replica_names import replica_name, replica_number
from serve.gateway.alias_split import AliasSplit, alias_split
from serve.gateway.engine_access import EngineAccess
from serve.gateway.redaction import NO_SECRETS, Redactor, settings_secrets

_POLL_INTERVAL_S = 0.25
_log = logging.getLogger("parley.gateway")


@dataclass(frozen=True)
class Route:
    """How to reach the model that a name stands for.

    `model` is its name at the server; `renamed`: requests must be rewritten to that name. `address` ends in `/v1` and
    is None while the model is not running. `authorization` is the whole header and is never shown. `fallbacks` are ids
    to try in order while it is down; those retired since are missing from the snapshot's routes. `split`: set if the
    name is a split alias; this route is then the one of the model with the largest weight. `capabilities` is None for a
    hosted model. `redactor` removes Parley's secrets from the server's responses. `replicas`: set if several engines
    serve the model; `address` is then the first one's. `engine`: the name of the engine at `address`, and `replica`
    its number; empty for a hosted model.
    """

    spec: ModelSpec
    model: str
    renamed: bool
    state: ModelState
    address: str | None
    authorization: str | None
    fallbacks: tuple[str, ...] = ()
    split: AliasSplit | None = None
    redactor: Redactor = NO_SECRETS
    capabilities: Capabilities | None = None
    replicas: "ReplicaRoutes | None" = None
    engine: str = ""
    replica: int = 1

    @property
    def targets(self) -> "tuple[Route, ...]":
        """The routes to each server that can answer: the replicas, or this route itself."""
        return (self,) if self.replicas is None else self.replicas.routes

    @property
    def hosted(self) -> bool:
        """Whether the model runs on an upstream server."""
        return self.spec.kind == "hosted"

    def __repr__(self) -> str:
        return f"Route({self.spec.id!r}, {self.state.state})"


@dataclass(frozen=True)
class ReplicaRoutes:
    """The routes to the ready replicas of a model, for an adapter to those that have loaded it.

    `running`: how many replicas its engine has ready. `target_running`: requests that each should run at once.
    """

    routes: tuple[Route, ...]
    running: int
    target_running: int


@dataclass(frozen=True)
class Snapshot:
    """The registry at one revision. `routes`: every name that clients may send, aliases included.

    `aliases`: alias → model id; names of the setting `fine_tuning_models` that no model has are among them.
    `mapped_names`: those names → the model or alias that they are mapped to.
    """

    revision: int = -1
    routes: Mapping[str, Route] = field(default_factory=dict)
    listed: tuple[ModelSpec, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    mapped_names: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, KeyInfo] = field(default_factory=dict)
    keys_needed: bool = False
    # (model id, state) → the number of the model's engines in that state.
    replica_states: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # Authorization headers accepted under this snapshot by `serve.gateway.authorization`, one entry per key. Never
    # printed.
    accepted_headers: dict[bytes, KeyInfo] = field(default_factory=dict, repr=False, compare=False)
    batch_tokens: BatchTokens = field(default_factory=BatchTokens, repr=False, compare=False)

    def find_route(self, name: str) -> Route | None:
        """The route of a name that a client sent; None if no model has it or is mapped to it."""
        route = self.routes.get(name)
        if route is None and (target := find_mapped_model(self.mapped_names, name)) is not None:
            mapped = self.routes.get(target)
            return None if mapped is None else replace(mapped, renamed=True)
        return route

    def find_spec(self, model_id: str) -> ModelSpec | None:
        """The spec of a model id, or None."""
        route = self.routes.get(model_id)
        return route.spec if route is not None else None

    def model_states(self) -> Iterator[tuple[str, str]]:
        """(model id, state) of each model, aliases left out."""
        return ((name, route.state.state) for name, route in self.routes.items() if name == route.spec.id)


def read_snapshot(settings: Settings, database: Database) -> Snapshot:
    """Reads the whole snapshot from the database."""
    registry = Registry(database)
    revision = registry.revision()
    specs = registry.list(include_candidates=True)
    rows = engine_states.read_statuses(database)
    model_states, replicas = engine_states.combine_states(specs, rows), engine_states.replicas_of(rows)
    engine_key = engine_states.read_key(settings.home)
    credentials = {spec.upstream.credential for spec in specs if spec.upstream and spec.upstream.credential}
    for_upstreams = Redactor([engine_key, *settings_secrets(settings, credentials)])
    access = EngineAccess(engine_key)
    routes = {
        spec.id: _local_route(spec, model_states[spec.id], replicas.get(spec.id, ()), access)
        if spec.upstream is None
        else _hosted_route(settings, spec, spec.upstream, model_states[spec.id], for_upstreams)
        for spec in specs
    }
    for name, known in _capabilities(specs).items():
        routes[name] = replace(routes[name], capabilities=known)
    routes = {name: _with_replicas(route, routes, replicas, access) for name, route in routes.items()}
    aliases = {name: target for name, target in registry.aliases().items() if target in routes}
    weights = registry.alias_weights()
    for name, target in aliases.items():
        split = alias_split(name, weights[name]) if name in weights else None
        routes[name] = replace(routes[target], renamed=True, split=split)
    # A model or an alias of that name comes first: a hosted `gpt-4o` stays OpenAI's in chat, whatever it is trained as.
    mapped_names = {name: target for name, target in settings.fine_tuning_models.items() if name not in routes}
    for name, target in mapped_names.items():
        if target in routes:
            aliases[name] = routes[target].spec.id
    routes |= {name: replace(routes[target], renamed=True) for name, target in mapped_names.items() if target in routes}
    return Snapshot(
        revision=revision,
        routes=MappingProxyType(routes),
        listed=tuple(spec for spec in specs if spec.state == "listed"),
        aliases=MappingProxyType(aliases),
        mapped_names=MappingProxyType(mapped_names),
        keys=MappingProxyType(_keys(settings, database)),
        keys_needed=keys_configured(database),
        replica_states=MappingProxyType(_count_replicas(specs, replicas)),
        batch_tokens=BatchTokens(settings.home),
    )


def _capabilities(specs: Sequence[ModelSpec]) -> dict[str, Capabilities | None]:
    """Model id → capabilities, for local models."""
    by_id = {spec.id: spec for spec in specs}
    bases = {spec.base for spec in specs if spec.kind == "adapter"}
    known = {}
    for spec in specs:
        if spec.kind != "hosted":
            base = by_id.get(spec.base or "") if spec.kind == "adapter" else None
            known[spec.id] = read_capabilities(spec, base, adapters=spec.kind == "adapter" or spec.id in bases)
    return known


def _hosted_route(
    settings: Settings, spec: ModelSpec, upstream: Upstream, state: ModelState, redactor: Redactor
) -> Route:
    key = settings.credential(upstream.credential) if upstream.credential else None
    return Route(
        spec,
        upstream.model,
        upstream.model != spec.id,
        state,
        upstream.base_url.rstrip("/"),
        f"Bearer {key}" if key else None,
        spec.fallbacks,
        redactor=redactor,
    )


def _local_route(spec: ModelSpec, state: ModelState, replicas: Sequence[EngineStatus], access: EngineAccess) -> Route:
    ready = _ready(replicas)
    route = Route(spec, spec.id, False, state, None, None, spec.fallbacks)
    return _at_replica(route, ready[0] if ready else None, access)


def _at_replica(route: Route, status: EngineStatus | None, access: EngineAccess) -> Route:
    """The route to the engine with this status; without one, as long as none is ready."""
    number = replica_number(status.name) if status else 1
    engine = replica_name(_engine_model(route.spec), number)
    authorization, redactor = access.of(engine)
    return replace(
        route,
        address=f"{status.address}/v1" if status else None,
        authorization=authorization,
        redactor=redactor,
        engine=engine,
        replica=number,
    )


def _engine_model(spec: ModelSpec) -> str:
    """The id of the model whose engine serves this one."""
    return spec.base or spec.id if spec.kind == "adapter" else spec.id


def _with_replicas(
    route: Route, routes: Mapping[str, Route], replicas: Mapping[str, Sequence[EngineStatus]], access: EngineAccess
) -> Route:
    """The route with those to each replica, if its engine has several."""
    spec, base = route.spec, _engine_model(route.spec)
    ready, running = _ready(replicas.get(spec.id, ())), len(_ready(replicas.get(base, ())))
    if not ready or running < 2:
        return route
    targets = tuple(_at_replica(route, status, access) for status in ready)
    options = routes[base].spec.engine if base in routes else spec.engine
    return replace(route, replicas=ReplicaRoutes(targets, running, options.target_running))


def _count_replicas(
    specs: Sequence[ModelSpec], replicas: Mapping[str, Sequence[EngineStatus]]
) -> dict[tuple[str, str], int]:
    """(model id, state) → number of engines, of models with engines of their own."""
    own = [spec.id for spec in specs if spec.kind in ("base", "merged")]
    counts: Counter[tuple[str, str]] = Counter()
    for name in own:
        counts.update((name, status.state) for status in replicas.get(name, ()))
    return counts


def _ready(replicas: Sequence[EngineStatus]) -> list[EngineStatus]:
    return [status for status in replicas if status.state == "ready" and status.address]


def _keys(settings: Settings, database: Database) -> dict[str, KeyInfo]:
    keys = active_keys(database)
    if settings.page_key:
        digest = key_digest(settings.page_key.get_secret_value())
        keys.setdefault(digest, KeyInfo("page", "page", "client", utcnow(), None, None))
    return keys


class SnapshotWatcher:
    """Holds the newest snapshot. A thread polls the registry's revision; `changed` waits for the next snapshot."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self.current = Snapshot()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="snapshot", daemon=True)
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Reads the first snapshot, then polls until `stop`. Raises ParleyError if the database is unreachable."""
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.current = await asyncio.to_thread(read_snapshot, self._settings, self._database)
        self._thread.start()

    def stop(self) -> None:
        """Stops polling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    async def changed(self, timeout_s: float) -> None:
        """Returns at the next snapshot, or after the timeout."""
        assert self._changed is not None
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return

    async def catch_up(self, timeout_s: float = 5.0) -> None:
        """Returns once the snapshot is as new as the database is now, or after the timeout."""
        wanted = await asyncio.to_thread(Registry(self._database).revision)
        deadline = time.monotonic() + timeout_s
        while self.current.revision < wanted and (remaining_s := deadline - time.monotonic()) > 0:
            await self.changed(min(remaining_s, _POLL_INTERVAL_S))

    def _poll(self) -> None:
        registry = Registry(self._database)
        while not self._stop.wait(_POLL_INTERVAL_S):
            try:
                if registry.revision() == self.current.revision:
                    continue
                fresh = read_snapshot(self._settings, self._database)
            except ParleyError as error:
                _log.warning("the registry cannot be read, staying at revision %d: %s", self.current.revision, error)
                continue
            except Exception:
                # If the thread died here, the gateway would never see another change.
                _log.exception("reading the registry failed")
                continue
            self.current = fresh
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._announce)

    def _announce(self) -> None:
        # Wakes the current waiters; later ones wait for the next event.
        assert self._changed is not None
        self._changed.set()
        self._changed = asyncio.Event()
