"""What the gateway knows, frozen: models, where they are, keys. Polled by one number, replaced whole.

A request reads one snapshot from its beginning to its end; nothing in it ever changes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from models.database import Database, utcnow
from models.errors import ParleyError
from models.keys import KeyInfo, active_keys, key_digest, keys_configured
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_states, vllm_command
from serve.fleet.engine_states import ModelState, Served

_POLL_S = 0.25
_log = logging.getLogger("parley.gateway")


@dataclass(frozen=True)
class Route:
    """How to reach the model that a name stands for.

    `model` is the name it has there; `renamed` says that a request must be rewritten to it. `address` ends in
    `/v1` and is None while the model does not run. `authorization` is the whole header, never shown. `fallbacks` are
    ids to try in order while the upstream fails; one that was retired since is in no snapshot's routes.
    """

    spec: ModelSpec
    model: str
    renamed: bool
    state: ModelState
    address: str | None
    authorization: str | None
    fallbacks: tuple[str, ...] = ()

    @property
    def hosted(self) -> bool:
        """Whether it is proxied to somebody else's server."""
        return self.spec.kind == "hosted"

    def __repr__(self) -> str:
        return f"Route({self.spec.id!r}, {self.state.state})"


@dataclass(frozen=True)
class Snapshot:
    """The world at one revision. `routes`: every name that clients may send, aliases included."""

    revision: int = -1
    routes: Mapping[str, Route] = field(default_factory=dict)
    listed: tuple[ModelSpec, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, KeyInfo] = field(default_factory=dict)
    keys_needed: bool = False
    # Whom `serve.gateway.authorization` has let in by this snapshot, by the header as it came: one entry a key. Nobody prints
    # it.
    admitted: dict[bytes, KeyInfo] = field(default_factory=dict, repr=False, compare=False)


def read_snapshot(settings: Settings, database: Database) -> Snapshot:
    """Reads the database once, whole."""
    registry = Registry(database)
    revision = registry.revision()
    specs = registry.list(include_candidates=True)
    rows = engine_states.served(database)
    known = engine_states.states_of(specs, rows)
    engine_key = vllm_command.read_key(settings.home)
    routes = {spec.id: _route(settings, spec, known[spec.id], rows.get(spec.id), engine_key) for spec in specs}
    aliases = {name: target for name, target in registry.aliases().items() if target in routes}
    for name, target in aliases.items():
        own = routes[target]
        routes[name] = replace(own, renamed=True)
    return Snapshot(
        revision=revision,
        routes=MappingProxyType(routes),
        listed=tuple(spec for spec in specs if spec.state == "listed"),
        aliases=MappingProxyType(aliases),
        keys=MappingProxyType(_keys(settings, database)),
        keys_needed=keys_configured(database),
    )


def _route(settings: Settings, spec: ModelSpec, state: ModelState, row: Served | None, engine_key: str) -> Route:
    if spec.upstream is not None:
        key = settings.credential(spec.upstream.credential) if spec.upstream.credential else None
        return Route(
            spec,
            spec.upstream.model,
            spec.upstream.model != spec.id,
            state,
            spec.upstream.base_url.rstrip("/"),
            f"Bearer {key}" if key else None,
            spec.fallbacks,
        )
    address = f"{row.address}/v1" if row and row.address and state.state == "ready" else None
    return Route(spec, spec.id, False, state, address, f"Bearer {engine_key}")


def _keys(settings: Settings, database: Database) -> dict[str, KeyInfo]:
    keys = active_keys(database)
    if settings.page_key:
        digest = key_digest(settings.page_key.get_secret_value())
        keys.setdefault(digest, KeyInfo("page", "page", "client", utcnow(), None, None))
    return keys


class Watcher:
    """Holds the newest snapshot. A thread polls the revision; `changed` waits for the next snapshot."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self.current = Snapshot()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="snapshot", daemon=True)
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Reads the first snapshot, then polls until `stop`. Raises ParleyError where the database is not there."""
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self.current = await asyncio.to_thread(read_snapshot, self._settings, self._database)
        self._thread.start()

    def stop(self) -> None:
        """Ends the polling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    async def changed(self, timeout_s: float) -> None:
        """Returns at the next snapshot, or after the time."""
        assert self._news is not None
        try:
            await asyncio.wait_for(self._news.wait(), timeout_s)
        except TimeoutError:
            return

    async def catch_up(self, timeout_s: float = 5.0) -> None:
        """Returns once the snapshot has what the database holds now, or after the time."""
        wanted = await asyncio.to_thread(Registry(self._database).revision)
        deadline = time.monotonic() + timeout_s
        while self.current.revision < wanted and (left := deadline - time.monotonic()) > 0:
            await self.changed(min(left, _POLL_S))

    def _poll(self) -> None:
        registry = Registry(self._database)
        while not self._stop.wait(_POLL_S):
            try:
                if registry.revision() == self.current.revision:
                    continue
                fresh = read_snapshot(self._settings, self._database)
            except ParleyError as error:
                _log.warning("the registry cannot be read, going on with revision %d: %s", self.current.revision, error)
                continue
            except Exception:
                # A thread that dies here would leave the gateway blind for good.
                _log.exception("reading the registry broke")
                continue
            self.current = fresh
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._announce)

    def _announce(self) -> None:
        # Whoever waits now is woken; whoever comes later waits for the next one.
        assert self._news is not None
        self._news.set()
        self._news = asyncio.Event()
