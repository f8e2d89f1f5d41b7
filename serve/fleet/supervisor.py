"""The supervisor: a controller that makes the running engines match the registry and publishes their states.

Each round compares the desired engines and adapters with the actual ones and takes one step for each difference. It is
the only writer of engine rows. `serve.fleet.engine_lifecycle` handles one engine, `serve.fleet.placement` decides which
engine makes room, and `serve.processes.guardian` makes sure that no process is left behind.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta

import aiohttp

from models.database import Database, utcnow
from models.errors import ParleyError
from models.jobs.jobs import reserved_memory
from models.registry.registry import Registry
from models.settings.settings import Settings
from serve.fleet import engine_states
from serve.fleet.engine_demand import wake_replicas
from serve.fleet.engine_failures import FailureStreak
from serve.fleet.engine_host import EngineHost, OtherEngines
from serve.fleet.engine_lifecycle import EngineLifecycle, begin_drain
from serve.fleet.engine_rows import engine_rows
from serve.fleet.engine_states import EngineStatus
from serve.fleet.local_host import LocalHost
from serve.fleet.machine import Machine
from serve.fleet.managed_engine import ASLEEP, NO_ROOM, ManagedEngine
from serve.fleet.memory import MemoryBudget, MemoryUse
from serve.fleet.placement import Fit, PlacedEngine, decide_placement
from serve.fleet.replica_names import replica_number
from serve.fleet.replicas import Replicas
from serve.processes.children import stop_all
from serve.transport.engine_tls import engine_tls

_TICK_S = 0.5
_DATABASE_TIMEOUT_S = 2.0  # after that a round goes on without the database
_DEMAND_INTERVAL_S = 0.9
# How long a requested engine stays, whatever else is requested: otherwise two models in turn would only ever start.
STAY_S = 15.0
_log = logging.getLogger("parley.supervisor")


class Supervisor:
    """Keeps the engines of one home running. `run` until cancelled, then `stop`. `host`: by default, this machine."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        machine: Machine,
        report: Callable[[str], None] = _log.info,
        *,
        stay_s: float = STAY_S,
        host: EngineHost | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._report = report
        self._stay_s = stay_s
        self._registry = Registry(database)
        self._memory = MemoryBudget(machine, settings)
        self._host = host or LocalHost(settings, machine, self._memory)
        self._revision = -1
        self._engines: dict[str, ManagedEngine] = {}
        self._replicas = Replicas(self._engines)
        self._planned: set[str] = set()
        self._published: dict[str, EngineStatus] = {}
        self._key = secrets.token_urlsafe(32)
        self._demand_read_at = self._reservations_read_at = 0.0
        self._accesses: dict[str, asyncio.Task[None]] = {}
        self._lifecycle = EngineLifecycle(settings, self._host, self._memory, self._key, self._replicas, report)

    @property
    def guardians(self) -> set[int]:
        """The pids of the engines' guardians on this machine."""
        pids = (self._host.guardian(engine.process) for engine in self._engines.values() if engine.process)
        return {pid for pid in pids if pid is not None}

    def settled(self) -> bool:
        """Whether the start is over: every engine is published as ready or asleep, or has failed once."""
        if self._revision < 0:
            return False
        states = engine_states.best_states(self._published)
        for name in self._replicas.desired.engines:
            engine = self._engines.get(name)
            if engine is None:
                return False
            if engine.attempts or engine.gave_up_at or engine.unplaced or engine.share is None:
                continue
            row = self._published.get(name)
            adapters = self._replicas.adapters_of(engine)
            known = [row.state if row else None, *(states.get(adapter) for adapter in adapters)]
            if not all(state in ("ready", "failed") for state in known):
                return False
        return True

    def overview(self) -> dict[str, EngineStatus]:
        """Name of a model or replica → the status that was last published."""
        return dict(self._published)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        engine_states.write_key(self._settings.home, self._key)
        await asyncio.to_thread(engine_states.delete_statuses, self._database)
        connector = aiohttp.TCPConnector(ssl=engine_tls(self._settings) or True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                try:
                    await self._round(session)
                except ParleyError as error:
                    _log.warning("%s", error)
                except Exception:
                    # If the loop ended after one failed round, no engine would be looked after again.
                    _log.exception("a round of the supervisor failed")
                await asyncio.sleep(_TICK_S)

    async def stop(self) -> None:
        """Stops every engine at once and deletes its rows."""
        for engine in self._engines.values():
            engine.cancel_step()
        for access in self._accesses.values():
            access.cancel()
        running = [engine.process for engine in self._engines.values() if engine.process]
        await asyncio.to_thread(stop_all, running)
        self._engines.clear()
        try:
            await asyncio.to_thread(engine_states.delete_statuses, self._database)
        except ParleyError as error:
            # The next start deletes them first.
            _log.warning("the engines' rows cannot be deleted yet: %s", error)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        await self._access_database("models", self._read_desired)
        self._replicas.follow_load(time.monotonic())
        self._stop_retired()
        if self._replicas.desired.engines.keys() != self._planned:
            self._place_new()
        await self._access_database("demand", self._apply_demand)
        await self._access_database("reservations", self._apply_reservations)
        self._start_requested()
        self._stop_idle_engines()
        for engine in self._engines.values():
            if engine.task is None or engine.task.done():
                step = self._lifecycle.step(session, engine, self._must_wait)
                engine.task = asyncio.create_task(step)
        await asyncio.sleep(0)
        await self._access_database("states", self._publish)

    async def _access_database(self, what: str, ask: Callable[[], Coroutine[None, None, None]]) -> None:
        """Runs one database access of each kind at a time. While the database hangs, the last known values stay in
        use, so that engines are still looked after.
        """
        access = self._accesses.get(what)
        if access is None:
            access = self._accesses[what] = asyncio.create_task(ask())
        done, _ = await asyncio.wait({access}, timeout=_DATABASE_TIMEOUT_S)
        if not done:
            _log.warning("the database does not answer: using the last known state")
            return
        del self._accesses[what]
        try:
            access.result()
        except ParleyError as error:
            if self._revision < 0:
                raise
            _log.warning("using the last known state: %s", error)

    async def _read_desired(self) -> None:
        revision = await asyncio.to_thread(self._registry.revision)
        if revision != self._revision:
            specs = await asyncio.to_thread(self._registry.list, include_candidates=True)
            pinned = await asyncio.to_thread(self._registry.pinned)
            self._replicas.update(specs, pinned)
            self._revision = revision

    def _stop_retired(self) -> None:
        """Stops engines of models that are retired, and replicas that are not wanted any more."""
        desired = self._replicas.desired
        for name, engine in list(self._engines.items()):
            if engine.removed or (name not in desired.engines and engine.process is None):
                engine.cancel_step()
                del self._engines[name]
                self._planned.clear()  # there may be room now for an engine that found none
            elif name not in desired.engines and (engine.drain is None or engine.drain.then != "remove"):
                engine.cancel_step()
                begin_drain(engine, "remove", "fewer replicas" if engine.spec.id in desired.adapters else "retired")

    def _place_new(self) -> None:
        """After a change of the desired engines: places as many as there is room for, without stopping any."""
        desired = self._replicas.desired
        for name in [name for name in desired.engines if name not in self._engines]:
            number = replica_number(name)
            self._engines[name] = ManagedEngine(desired.engines[name], number, asleep_since=utcnow())
        self._planned = set(desired.engines)
        # An engine whose starts failed waits for a request: it does not lack room.
        waiting = [
            engine
            for engine in self._engines.values()
            if engine.share is None
            and not engine.attempts
            and not engine.waits_for_request
            and engine.name in desired.engines
        ]

        def priority(engine: ManagedEngine) -> tuple[bool, bool, int]:
            return engine.name not in desired.pinned, not self._replicas.is_first(engine), engine.number

        # Pinned engines first, then the first replica of each model, then by age.
        for engine in sorted(waiting, key=priority):
            name, first = engine.name, self._replicas.is_first(engine)
            fit = self._fits(self._placed_names(), name)
            shrunk = self._shrunk(name, fit)
            if not first and any(self._engines[other].process for other in shrunk):
                # For a model, others have to restart with less; a further replica would only interrupt them.
                fit.refused[name] = f"{shrunk[0]} would have to restart with less of the GPU's memory"
                del fit.shares[name]
            if name in fit.shares:
                self._admit(name, fit)
            elif not self._memory.reserved and name in (alone := self._fits((), name)).refused:
                self._lifecycle.give_up(engine, alone.refused[name])
            elif not engine.gave_up_at:
                before = engine.message
                engine.message = f"{ASLEEP if first else NO_ROOM}; {fit.refused[name]}"
                if engine.message != before:
                    self._report(f"{name}: {engine.message}")

    def _placed_names(self) -> list[str]:
        """Engines that have a share, including those that are being stopped."""
        return [name for name, engine in self._engines.items() if engine.share is not None]

    def _fits(self, staying: Sequence[str], newcomer: str) -> Fit:
        """The plan with a new engine beside those that stay."""
        staying_engines = [self._engines[name] for name in staying]
        held = {name: self._memory_use(engine) for name, engine in self._engines.items() if engine.share is not None}
        stay = {name: held[name] for name in staying}
        freed = sum(engine.taken for name, engine in held.items() if name not in stay)
        placed = {engine.name: engine.share.gpus for engine in staying_engines if engine.share}
        engines = [*[engine.placed_spec for engine in staying_engines], self._engines[newcomer].placed_spec]
        return self._host.fit(engines, OtherEngines(placed, stay, freed))

    def _memory_use(self, engine: ManagedEngine) -> MemoryUse:
        assert engine.share is not None
        planned = engine.memory_bytes or self._memory.need(engine.spec, engine.share).total
        if engine.state == "ready":
            return MemoryUse(planned, planned)
        return MemoryUse(planned, min(engine.process.memory_bytes(), planned) if engine.process else 0)

    def _shrunk(self, newcomer: str, fit: Fit) -> list[str]:
        """The engines that get less of their GPU than they have: vLLM never returns its part, so they restart."""
        return [
            name
            for name, share in fit.shares.items()
            if name != newcomer
            and (had := self._engines[name].share) is not None
            and share.gpu_memory_share < had.gpu_memory_share - 0.005
        ]

    def _admit(self, name: str, fit: Fit) -> None:
        """Gives the new engine its share, and the others theirs for the next start."""
        shrunk = self._shrunk(name, fit)
        for other, share in fit.shares.items():
            engine = self._engines[other]
            if other == name:
                engine.started_on_request = engine.requested_at is not None
                engine.share, engine.gave_up_at, engine.requested_at = share, None, None
                engine.attempts, engine.failures = 0, FailureStreak()
                engine.state, engine.message, engine.retry_at = "starting", "waiting to start", 0.0
                engine.waits_for_request = False
                continue
            engine.share = share
            if other in shrunk and engine.drain is None:
                engine.cancel_step()
                begin_drain(engine, "restart", "making room on the GPU")

    async def _apply_demand(self) -> None:
        """Stops unloaded engines; marks sleeping and failed engines that have been requested since."""
        if time.monotonic() - self._demand_read_at < _DEMAND_INTERVAL_S:
            return
        self._demand_read_at = time.monotonic()
        for model in await asyncio.to_thread(engine_states.take_sleep_requests, self._database):
            for engine in self._replicas.of(model):
                runs_or_waits = engine.share is None or (engine.state == "ready" and not engine.drain)
                if runs_or_waits and engine.name not in self._replicas.desired.pinned:
                    self._put_to_sleep(engine, "unloaded")
        if self._replicas.several:
            spread = await asyncio.to_thread(engine_states.take_spread_requests, self._database)
            used = await asyncio.to_thread(engine_states.take_use_reports, self._database)
            self._replicas.follow_requests(spread, used, time.monotonic())
        if all(engine.share is not None for engine in self._engines.values()):
            return
        requested = await asyncio.to_thread(engine_states.read_demand, self._database, timedelta(minutes=1))
        to_place = False
        for model, adapters in self._replicas.desired.adapters.items():
            moments = [requested[name] for name in (model, *adapters) if name in requested]
            engines = self._replicas.of(model)
            to_place |= wake_replicas(engines, max(moments, default=None), self._replicas.desired.pinned)
        # Memory that becomes free goes to a requested engine first.
        if to_place and all(engine.requested_at is None for engine in self._engines.values()):
            self._planned.clear()

    async def _apply_reservations(self) -> None:
        """Makes room for jobs that have reserved memory, one engine at a time, the least recently used first."""
        if time.monotonic() - self._reservations_read_at < _DEMAND_INTERVAL_S:
            return
        self._reservations_read_at = time.monotonic()
        self._memory.reserved = await asyncio.to_thread(reserved_memory, self._database)
        if not self._memory.reserved or any(engine.drain for engine in self._engines.values()):
            return
        movable = [engine for engine in self._placed_engines() if engine.movable]
        if movable and await asyncio.to_thread(self._host.missing_for_jobs):
            name = min(movable, key=lambda engine: engine.used).name
            self._engines[name].cancel_step()
            begin_drain(self._engines[name], "sleep", "made room for a job")

    def _stop_idle_engines(self) -> None:
        """Stops the engines of models without a request for `sleep_after_s` or `engine_sleep_after_s`, until the next
        request.
        """
        for model in self._replicas.desired.adapters:
            replicas = self._replicas.of(model)
            engines = [engine for engine in replicas if engine.share is not None]
            limit = next((engine.spec.engine.sleep_after_s for engine in engines), None)
            limit = limit or self._settings.engine_sleep_after_s
            if limit is None or model in self._replicas.desired.pinned:
                continue
            if engines and all(engine.was_idle_for(limit) for engine in engines):
                for engine in replicas:
                    self._put_to_sleep(engine, f"had no request for {limit:.0f} s")

    def _put_to_sleep(self, engine: ManagedEngine, why: str) -> None:
        """Stops an engine until the next request. One that found no room does not take that of its model's others."""
        engine.waits_for_request = True
        if engine.share is not None:
            engine.cancel_step()
            begin_drain(engine, "sleep", why)

    def _start_requested(self) -> None:
        """Starts requested engines in the order of their requests, and makes room for them."""
        requested = [
            engine for engine in self._engines.values() if engine.requested_at is not None and engine.share is None
        ]
        for engine in sorted(requested, key=lambda engine: engine.requested_at or 0.0):
            name = engine.name
            leaving = any(engine.drain and engine.drain.then != "restart" for engine in self._engines.values())
            decision = decide_placement(self._placed_engines(), leaving, name, self._fits)
            if decision.admit is not None:
                self._admit(name, decision.admit)
            elif decision.never and not self._memory.reserved:
                self._lifecycle.give_up(engine, decision.never[name])
            else:
                engine.state = "starting"
                engine.message = "waiting for memory: another model is finishing its requests"
                if not decision.drain:
                    engine.message = decision.wait.get(name, "waiting for memory: a job has reserved it")
                for other in decision.drain:
                    self._engines[other].cancel_step()
                    begin_drain(self._engines[other], "sleep", f"made room for {name}")

    def _placed_engines(self) -> list[PlacedEngine]:
        now, pinned = time.monotonic(), self._replicas.desired.pinned
        return [
            PlacedEngine(
                name,
                movable=name not in pinned
                and engine.state == "ready"
                and (now - engine.since > self._stay_s or not engine.started_on_request),
                used=engine.used,
                pinned=name in pinned,
            )
            for name, engine in self._engines.items()
            if engine.share is not None
        ]

    def _must_wait(self, engine: ManagedEngine) -> bool:
        """On a GPU an engine measures the free memory at its start, so two engines must not start on it at the same
        time.
        """
        busy = [
            other
            for other in self._engines.values()
            if other is not engine and (other.preparing or (other.process and other.state != "ready"))
        ]
        return any(engine.shares_a_card_with(other) for other in busy)

    async def _publish(self) -> None:
        """Writes the rows that changed and deletes those of models that are gone."""
        rows = engine_rows(self._engines.values(), self._replicas)
        gone = self._published.keys() - rows.keys()
        changed = [row for name, row in rows.items() if self._published.get(name) != row]
        if gone:
            await asyncio.to_thread(engine_states.delete_statuses, self._database, gone)
        if changed:
            await asyncio.to_thread(engine_states.write_statuses, self._database, changed)
        self._published = rows
