"""The supervisor: a controller that makes what runs equal what the registry says should run, and tells the state.

Each round compares the desired engines and adapters with the actual ones and takes one step for each that differs. It
is the only writer of engine rows. One engine's life is `serve.fleet.engine_lifecycle`, who runs while there is not room
for all is `serve.fleet.eviction`, and how a process is kept from leaving anything behind is `serve.processes.guardian`.
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
from models.registry import Registry
from models.reservations import reserved
from models.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_states, machine, vllm_command
from serve.fleet.engine_lifecycle import BACKOFF_LIMIT_S, EngineLifecycle, begin_drain
from serve.fleet.engine_states import EngineStatus
from serve.fleet.eviction import PlacedEngine, decide_placement
from serve.fleet.machine import Fit, Machine
from serve.fleet.managed_engine import ASLEEP, DesiredState, ManagedEngine, desired_state
from serve.fleet.memory import MemoryBudget, MemoryUse
from serve.processes.children import stop_all

_TICK_S = 0.5
_DATABASE_S = 2.0  # what it may take before engines are looked after without it
_DEMAND_EVERY_S = 0.9
# A wish is made when somebody asks and has ended when nobody asks again for so long.
_WISH_S = 120.0
# An engine that somebody asked for stays so long, whoever else asks: else two models in turn would only ever start.
STAY_S = 15.0
_log = logging.getLogger("parley.supervisor")


class Supervisor:
    """Keeps the engines of one home running. `run` until it is cancelled, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        machine: Machine,
        tell: Callable[[str], None] = _log.info,
        *,
        stay_s: float = STAY_S,
    ) -> None:
        self._settings = settings
        self._database = database
        self._machine = machine
        self._tell = tell
        self._stay_s = stay_s
        self._registry = Registry(database)
        self._memory = MemoryBudget(machine, settings)
        self._revision = -1
        self._wanted = DesiredState({}, {})
        self._engines: dict[str, ManagedEngine] = {}
        self._planned: set[str] = set()
        self._published: dict[str, EngineStatus] = {}
        self._key = secrets.token_urlsafe(32)
        self._looked_at_demand = self._looked_at_reserved = 0.0
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._tender = EngineLifecycle(settings, machine, self._memory, self._key, self._adapters_of, tell)

    @property
    def guardians(self) -> set[int]:
        """The pids of the engines' guardians."""
        return {engine.process.pid for engine in self._engines.values() if engine.process}

    def settled(self) -> bool:
        """Whether the start is over: everything is published as ready or asleep, or its engine has failed once."""
        if self._revision < 0:
            return False
        for base, adapters in self._wanted.adapters.items():
            engine = self._engines.get(base)
            if engine is None:
                return False
            if engine.attempts or engine.gave_up or engine.share is None:
                continue
            rows = [self._published.get(name) for name in (base, *adapters)]
            if not all(row and row.state in ("ready", "failed") for row in rows):
                return False
        return True

    def overview(self) -> dict[str, EngineStatus]:
        """Model id → what was last published."""
        return dict(self._published)

    async def run(self) -> None:
        """Reconciles until it is cancelled."""
        vllm_command.write_key(self._settings.home, self._key)
        await asyncio.to_thread(engine_states.delete_statuses, self._database)
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._round(session)
                except ParleyError as error:
                    _log.warning("%s", error)
                except Exception:
                    # A controller that dies of one odd round leaves every engine alone from then on.
                    _log.exception("a round of the supervisor broke")
                await asyncio.sleep(_TICK_S)

    async def stop(self) -> None:
        """Stops every engine, all at once, and takes its rows away."""
        for engine in self._engines.values():
            engine.halt()
        for asking in self._asking.values():
            asking.cancel()
        running = [engine.process for engine in self._engines.values() if engine.process]
        await asyncio.to_thread(stop_all, running)
        self._engines.clear()
        try:
            await asyncio.to_thread(engine_states.delete_statuses, self._database)
        except ParleyError as error:
            # The next start does it before anything else.
            _log.warning("the engines' rows stay for now: %s", error)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        await self._database_says("models", self._read_wanted)
        self._remove_unwanted()
        if self._wanted.engines.keys() != self._planned:
            self._place_all()
        await self._database_says("demand", self._heed_demand)
        await self._database_says("reservations", self._heed_reservations)
        self._heed_wishes()
        for engine in self._engines.values():
            if engine.task is None or engine.task.done():
                step = self._tender.step(session, engine, has_to_wait=self._has_to_wait(engine))
                engine.task = asyncio.create_task(step)
        await asyncio.sleep(0)
        await self._database_says("states", self._publish)

    async def _database_says(self, what: str, ask: Callable[[], Coroutine[None, None, None]]) -> None:
        """Reads or writes, one of each kind at a time. While the database is away or hangs, what it said last holds:
        engines are not left alone for that."""
        asking = self._asking.get(what)
        if asking is None:
            asking = self._asking[what] = asyncio.create_task(ask())
        done, _ = await asyncio.wait({asking}, timeout=_DATABASE_S)
        if not done:
            _log.warning("the database does not answer: going on with what is known")
            return
        del self._asking[what]
        try:
            asking.result()
        except ParleyError as error:
            if self._revision < 0:
                raise
            _log.warning("going on with what is known: %s", error)

    async def _read_wanted(self) -> None:
        revision = await asyncio.to_thread(self._registry.revision)
        if revision != self._revision:
            specs = await asyncio.to_thread(self._registry.list, include_candidates=True)
            pinned = await asyncio.to_thread(self._registry.pinned)
            self._wanted = desired_state(specs, pinned)
            self._revision = revision

    def _remove_unwanted(self) -> None:
        for name in [name for name in self._engines if name not in self._wanted.engines]:
            engine = self._engines[name]
            if engine.process is None:
                engine.halt()
                del self._engines[name]
                self._planned.clear()  # there may be room now for who found none
            elif engine.drain is None or engine.drain.then != "be gone":
                engine.halt()
                begin_drain(engine, "be gone", "retired")

    def _place_all(self) -> None:
        """After a change of what is wanted: places for as many as there is room for; nobody is moved out for it."""
        newcomers = [name for name in self._wanted.engines if name not in self._engines]
        for name in newcomers:
            self._engines[name] = ManagedEngine(self._wanted.engines[name], asleep_since=utcnow())
        self._planned = set(self._wanted.engines)
        # Whose starts came to nothing waits until somebody asks for it: room is not what it lacks.
        waiting = [
            one
            for one in self._engines.values()
            if one.share is None and not one.attempts and one.spec.id in self._wanted.engines
        ]
        # Who is pinned comes first, and then who was there first.
        for engine in sorted(waiting, key=lambda one: one.spec.id not in self._wanted.pinned):
            name = engine.spec.id
            found = self._fits(self._placed(), name)
            if name in found.shares:
                self._admit(name, found)
            elif not self._memory.reserved and name in (alone := self._fits((), name)).refused:
                self._tender.give_up(engine, alone.refused[name])
            elif not engine.gave_up:
                engine.message = f"{ASLEEP}; {found.refused[name]}"
                self._tell(f"{name} is {engine.message}")

    def _placed(self) -> list[str]:
        """Who has a place, those that are on their way out included."""
        return [name for name, engine in self._engines.items() if engine.share is not None]

    def _fits(self, staying: Sequence[str], newcomer: str) -> Fit:
        """The plan with a newcomer beside those that stay."""
        kept = [self._engines[name] for name in staying]
        held = {one.spec.id: self._holding(one) for one in self._engines.values() if one.share is not None}
        stay = {one.spec.id: held[one.spec.id] for one in kept}
        freed = sum(one.taken for name, one in held.items() if name not in stay)
        return machine.fit(
            self._machine,
            [*[one.spec for one in kept], self._engines[newcomer].spec],
            self._settings,
            {one.spec.id: one.share.gpus for one in kept if one.share},
            lambda shares, specs: self._memory.check(shares, specs, stay, freed),
        )

    def _holding(self, engine: ManagedEngine) -> MemoryUse:
        assert engine.share is not None
        planned = engine.memory_bytes or self._memory.need(engine.spec, engine.share).total
        if engine.state == "ready":
            return MemoryUse(planned, planned)
        return MemoryUse(planned, min(engine.process.memory_bytes(), planned) if engine.process else 0)

    def _admit(self, name: str, found: Fit) -> None:
        """Gives the newcomer its share, and everybody the new one for the next start."""
        for other, share in found.shares.items():
            engine = self._engines[other]
            if other == name:
                engine.called = engine.wished is not None
                engine.share, engine.gave_up, engine.wished, engine.attempts, engine.ends = share, None, None, 0, 0
                engine.state, engine.message, engine.again_at = "starting", "waiting to start", 0.0
                continue
            assert engine.share is not None
            shrinks = share.gpu_memory_share < engine.share.gpu_memory_share - 0.005
            engine.share = share
            if shrinks and engine.drain is None:
                # vLLM takes its part of a card for good, so room for a newcomer is made by starting again.
                engine.halt()
                begin_drain(engine, "start again", "making room on the GPU")

    async def _heed_demand(self) -> None:
        """Who sleeps or was given up is wished for once somebody has asked for it since."""
        idle = {name: engine for name, engine in self._engines.items() if engine.share is None}
        if not idle or time.monotonic() - self._looked_at_demand < _DEMAND_EVERY_S:
            return
        self._looked_at_demand = time.monotonic()
        asked = await asyncio.to_thread(engine_states.read_demand, self._database, timedelta(minutes=1))
        for name, engine in idle.items():
            moments = [asked[one] for one in (name, *self._adapters_of(name)) if one in asked]
            since = engine.asleep_since
            if engine.gave_up:
                since = engine.gave_up + timedelta(seconds=BACKOFF_LIMIT_S)
            if moments and since is not None and max(moments) > since:
                engine.wished = time.monotonic()
            elif name in self._wanted.pinned and not engine.gave_up:
                engine.wished = engine.wished or time.monotonic()
            elif engine.wished is not None and time.monotonic() - engine.wished > _WISH_S:
                engine.wished, engine.state, engine.message = None, "stopped", ASLEEP

    async def _heed_reservations(self) -> None:
        """A job that needs memory asks for it; who was not used for longest makes room, one after another."""
        if time.monotonic() - self._looked_at_reserved < _DEMAND_EVERY_S:
            return
        self._looked_at_reserved = time.monotonic()
        self._memory.reserved = await asyncio.to_thread(reserved, self._database)
        if not self._memory.reserved or any(one.drain for one in self._engines.values()):
            return
        movable = [one for one in self._tenants() if one.movable]
        if movable and await asyncio.to_thread(self._memory.missing):
            name = min(movable, key=lambda one: one.used).name
            self._engines[name].halt()
            begin_drain(self._engines[name], "sleep", "made room for a job")

    def _heed_wishes(self) -> None:
        """Makes room for who is wished for longest, and lets it start once there is."""
        wishes = [one for one in self._engines.values() if one.wished is not None and one.share is None]
        for engine in sorted(wishes, key=lambda one: one.wished or 0.0):
            name = engine.spec.id
            leaving = any(one.drain and one.drain.then != "start again" for one in self._engines.values())
            decision = decide_placement(self._tenants(), leaving, name, self._fits)
            if decision.admit is not None:
                self._admit(name, decision.admit)
            elif decision.never and not self._memory.reserved:
                self._tender.give_up(engine, decision.never[name])
            else:
                engine.state = "starting"
                engine.message = "waits for room: another model finishes its requests"
                if not decision.drain:
                    engine.message = decision.wait.get(name, "waits for memory: a job has reserved it")
                for other in decision.drain:
                    self._engines[other].halt()
                    begin_drain(self._engines[other], "sleep", f"made room for {name}")

    def _tenants(self) -> list[PlacedEngine]:
        now, pinned = time.monotonic(), self._wanted.pinned
        return [
            PlacedEngine(
                name,
                movable=name not in pinned
                and engine.state == "ready"
                and (now - engine.since > self._stay_s or not engine.called),
                used=engine.used,
                pinned=name in pinned,
            )
            for name, engine in self._engines.items()
            if engine.share is not None
        ]

    def _has_to_wait(self, engine: ManagedEngine) -> bool:
        """On a GPU an engine measures at its start what it may take: two that start at once count each other's."""
        busy = [one for one in self._engines.values() if one is not engine and one.process and one.state != "ready"]
        return any(engine.shares_a_card_with(one) for one in busy)

    def _adapters_of(self, name: str) -> dict[str, ModelSpec]:
        return self._wanted.adapters.get(name, {})

    async def _publish(self) -> None:
        """Writes the rows that changed, and removes those of models that are gone."""
        rows: dict[str, EngineStatus] = {}
        for name, engine in self._engines.items():
            if name not in self._wanted.engines:
                continue
            address = engine.endpoint.address if engine.endpoint and engine.state == "ready" else None
            pid = engine.process.pid if engine.process else None
            rows[name] = EngineStatus(name, engine.state, address, pid, engine.message, engine.memory_bytes)
            for adapter in self._adapters_of(name):
                loaded = engine.adapters.get(adapter)
                if engine.embeds:
                    rows[adapter] = EngineStatus(
                        adapter, "failed", message=f"{name} makes embeddings: nothing hangs on it"
                    )
                elif loaded is None:
                    waiting = engine.state if engine.state != "ready" else "starting"
                    rows[adapter] = EngineStatus(adapter, waiting, None, None, engine.message)
                else:
                    ready = loaded.state == "ready"
                    rows[adapter] = EngineStatus(adapter, loaded.state, address if ready else None, pid, loaded.message)
        gone = self._published.keys() - rows.keys()
        changed = [row for name, row in rows.items() if self._published.get(name) != row]
        if gone:
            await asyncio.to_thread(engine_states.delete_statuses, self._database, gone)
        if changed:
            await asyncio.to_thread(engine_states.write_statuses, self._database, changed)
        self._published = rows
