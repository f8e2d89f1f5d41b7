"""The supervisor: a controller that makes what runs equal what the registry says should run, and tells the state.

Each round compares the desired engines and adapters with the actual ones and takes one step for each that differs:
start, stop, load, unload, probe, restart. It is the only writer of engine rows. How an engine is started is
`serve.engines`; how it is kept from leaving anything behind is `serve.guardian`.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from datetime import timedelta

import aiohttp

from models.database import Database, utcnow
from models.errors import ParleyError
from models.registry import Registry
from models.settings import Settings
from serve import engines, states
from serve.fleet import Desired, Engine, Work, desired
from serve.machine import Machine, fit
from serve.processes import spawn, stop_all
from serve.states import Served

_TICK_S = 0.5
_PROBE_EVERY_S = 10.0
_PROBE_AGAIN_S = 2.0
_PROBE_TIMEOUT_S = 30.0
_GIVE_UP_AFTER = 5
_BACKOFF_LIMIT_S = 60.0
_STEADY_S = 60.0
_log = logging.getLogger("parley.supervisor")


class Supervisor:
    """Keeps the engines of one home running. `run` until it is cancelled, then `stop`."""

    def __init__(
        self, settings: Settings, database: Database, machine: Machine, tell: Callable[[str], None] = _log.info
    ) -> None:
        self._settings = settings
        self._database = database
        self._machine = machine
        self._tell = tell
        self._registry = Registry(database)
        self._revision = -1
        self._wanted = Desired({}, {})
        self._engines: dict[str, Engine] = {}
        self._planned: set[str] = set()
        self._published: dict[str, Served] = {}
        self._key = secrets.token_urlsafe(32)
        self._looked_at_demand = 0.0

    @property
    def guardians(self) -> set[int]:
        """The pids of the engines' guardians."""
        return {engine.process.pid for engine in self._engines.values() if engine.process}

    def settled(self) -> bool:
        """Whether the start is over: everything is published as ready, or its engine has failed at least once."""
        if self._revision < 0:
            return False
        for base, adapters in self._wanted.adapters.items():
            engine = self._engines.get(base)
            if engine is None:
                return False
            if engine.attempts or engine.gave_up:
                continue
            rows = [self._published.get(name) for name in (base, *adapters)]
            if not all(row and row.state in ("ready", "failed") for row in rows):
                return False
        return True

    def overview(self) -> dict[str, Served]:
        """Model id → what was last published."""
        return dict(self._published)

    async def run(self) -> None:
        """Reconciles until it is cancelled."""
        engines.write_key(self._settings.home, self._key)
        await asyncio.to_thread(states.forget, self._database)
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
            if engine.task:
                engine.task.cancel()
        running = [engine.process for engine in self._engines.values() if engine.process]
        await asyncio.to_thread(stop_all, running)
        self._engines.clear()
        await asyncio.to_thread(states.forget, self._database)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        revision = await asyncio.to_thread(self._registry.revision)
        if revision != self._revision:
            specs = await asyncio.to_thread(self._registry.list, include_candidates=True)
            self._wanted = desired(specs)
            self._revision = revision
        await self._remove_unwanted()
        await self._add_wanted()
        await self._heed_demand()
        for engine in self._engines.values():
            if engine.task is None or engine.task.done():
                engine.task = asyncio.create_task(self._step(session, engine))
        await asyncio.sleep(0)
        await self._publish()

    async def _remove_unwanted(self) -> None:
        for name in [name for name in self._engines if name not in self._wanted.engines]:
            engine = self._engines[name]
            if engine.task:
                engine.task.cancel()
            if engine.process:
                # It is ours until it is gone: the parent kills what falls to it and has no owner, without a grace.
                await asyncio.to_thread(engine.process.stop)
            del self._engines[name]
            self._tell(f"{name} stopped")

    async def _add_wanted(self) -> None:
        if self._wanted.engines.keys() == self._planned:
            return
        placed = {name: engine.share.gpus for name, engine in self._engines.items() if engine.share}
        # Who has a place keeps it: newcomers get what is left.
        in_order = sorted(self._wanted.engines.values(), key=lambda spec: spec.id not in placed)
        found = fit(self._machine, in_order, self._settings, placed)
        for name, spec in self._wanted.engines.items():
            share, engine = found.shares.get(name), self._engines.get(name)
            if engine is None:
                engine = self._engines[name] = Engine(spec, share)
                if share is None:
                    self._give_up(engine, found.refused[name])
            elif engine.share is None:
                if share is not None:
                    engine.share, engine.gave_up, engine.state = share, None, "starting"
            elif share is not None:
                shrinks = share.gpu_memory_share < engine.share.gpu_memory_share - 0.005
                engine.share = share  # for its next start
                if shrinks:
                    # vLLM takes its part of a card for good, so room for a newcomer is made by starting again.
                    if engine.task:
                        engine.task.cancel()
                    await self._start_again(engine, "making room on the GPU", at_once=True)
        self._planned = set(self._wanted.engines)

    async def _heed_demand(self) -> None:
        """An engine that was given up gets another try when somebody asked for it since."""
        given_up = {name: engine for name, engine in self._engines.items() if engine.gave_up and engine.share}
        if not given_up or time.monotonic() - self._looked_at_demand < 2:
            return
        self._looked_at_demand = time.monotonic()
        asked = await asyncio.to_thread(states.demanded, self._database, timedelta(minutes=1))
        for name, engine in given_up.items():
            wanted = {name, *self._wanted.adapters.get(name, ())}
            moments = [asked[one] for one in wanted if one in asked]
            assert engine.gave_up is not None
            if moments and max(moments) > engine.gave_up + timedelta(seconds=_BACKOFF_LIMIT_S):
                engine.gave_up, engine.attempts, engine.again_at, engine.state = None, 0, 0.0, "starting"

    async def _step(self, session: aiohttp.ClientSession, engine: Engine) -> None:
        """One engine's next step. Runs as a task, so that a slow engine holds up no other."""
        now = time.monotonic()
        try:
            if engine.process is None:
                if engine.gave_up is None and now >= engine.again_at and not self._has_to_wait(engine):
                    await self._start(engine)
            elif (code := engine.process.exit_code()) is not None:
                # The port is refused from now on: say so before anything else.
                words = engine.process.last_words()
                await self._start_again(engine, f"ended with status {code}" + (f": {words}" if words else ""))
            elif engine.state == "starting":
                await self._await_ready(session, engine)
            elif engine.state == "ready":
                await self._keep(session, engine)
        except ParleyError as error:
            _log.warning("%s: %s", engine.spec.id, error)

    def _has_to_wait(self, engine: Engine) -> bool:
        """On a GPU an engine measures at its start what it may take: two that start at once count each other's."""
        starting = [one for one in self._engines.values() if one is not engine and one.process and one.state != "ready"]
        return any(engine.shares_a_card_with(one) for one in starting)

    async def _start(self, engine: Engine) -> None:
        assert engine.share is not None
        adapters = len(self._wanted.adapters.get(engine.spec.id, ()))
        port = engines.free_port()
        try:
            command = engines.command(engine.spec, engine.share, port=port, key=self._key, adapters=adapters)
            engine.process = spawn(command, self._settings.logs_dir)
        except ParleyError as error:
            await self._start_again(engine, str(error))
            return
        engine.lora = engines.serves_adapters(engine.spec, adapters)
        engine.endpoint = engines.Endpoint(f"http://127.0.0.1:{port}", self._key)
        engine.since, engine.missed, engine.worked = time.monotonic(), 0, None
        engine.state, engine.message = "starting", "starting"
        engine.adapters = {}
        self._tell(f"{engine.spec.id} starts")

    async def _await_ready(self, session: aiohttp.ClientSession, engine: Engine) -> None:
        assert engine.endpoint is not None
        if await engines.canary(session, engine.endpoint, engine.spec.id, timeout_s=20):
            took = time.monotonic() - engine.since
            engine.state, engine.message = "ready", ""
            engine.since = engine.probed = time.monotonic()
            self._tell(f"{engine.spec.id} is ready, after {took:.0f} s")
            await self._match_adapters(session, engine)
        elif time.monotonic() - engine.since > self._settings.engine_start_timeout_s:
            await self._start_again(engine, f"not ready within {self._settings.engine_start_timeout_s:.0f} s")

    async def _keep(self, session: aiohttp.ClientSession, engine: Engine) -> None:
        assert engine.endpoint is not None
        wanted = self._wanted.adapters.get(engine.spec.id, {})
        if wanted and not engine.lora:
            await self._start_again(engine, "starting again, to take adapters", at_once=True)
            return
        await self._match_adapters(session, engine)
        if time.monotonic() - engine.since > _STEADY_S:
            engine.attempts = 0
        if time.monotonic() - engine.probed < (_PROBE_AGAIN_S if engine.missed else _PROBE_EVERY_S):
            return
        answered = await engines.canary(session, engine.endpoint, engine.spec.id, _PROBE_TIMEOUT_S)
        engine.probed = time.monotonic()
        if answered:
            engine.missed, engine.worked = 0, None
            return
        # A busy engine answers late; one that hangs has work waiting and makes no progress.
        before, engine.worked = engine.worked, await self._work_of(session, engine)
        moved = before is not None and engine.worked.moved_since(before)
        engine.missed = 1 if before is None or moved else engine.missed + 1
        if engine.missed >= 2:
            await self._start_again(engine, "made no token and no progress for a minute")

    async def _work_of(self, session: aiohttp.ClientSession, engine: Engine) -> "Work":
        assert engine.endpoint is not None
        assert engine.process is not None
        tokens = await engines.progress(session, engine.endpoint)
        # On a CPU one step over a long prompt can take minutes, with no token to show for it but the CPU time.
        return Work(tokens, engine.process.cpu_seconds() if self._machine.device == "cpu" else 0.0)

    async def _match_adapters(self, session: aiohttp.ClientSession, engine: Engine) -> None:
        """Loads what should hang on the engine and unloads what should not."""
        assert engine.endpoint is not None
        wanted = self._wanted.adapters.get(engine.spec.id, {})
        for name in [name for name in engine.adapters if name not in wanted]:
            engine.adapters.pop(name)
            await engines.unload_adapter(session, engine.endpoint, name)
            self._tell(f"{name} unloaded")
        for name, spec in wanted.items():
            if name in engine.adapters:
                continue
            try:
                await engines.load_adapter(session, engine.endpoint, name, str(spec.path))
            except ParleyError as error:
                if engine.process is None or engine.process.exit_code() is not None:
                    return
                engine.adapters[name] = Served(name, "failed", message=str(error))
                self._tell(f"{name} cannot be loaded: {error}")
            else:
                engine.adapters[name] = Served(name, "ready")
                self._tell(f"{name} is ready, on {engine.spec.id}")

    async def _start_again(self, engine: Engine, reason: str, *, at_once: bool = False) -> None:
        """Ends what is left of an engine and schedules its next start, later each time it comes to nothing."""
        process, engine.endpoint = engine.process, None
        engine.adapters = {}
        engine.state, engine.message, engine.since = "starting", reason, time.monotonic()
        if process is not None:
            await asyncio.to_thread(process.stop)
        engine.process = None
        if at_once:
            engine.again_at = 0.0
            return
        engine.attempts += 1
        if engine.attempts >= _GIVE_UP_AFTER:
            self._give_up(engine, f"gave up after {engine.attempts} starts: {reason}")
            return
        wait = min(2.0 ** (engine.attempts - 1), _BACKOFF_LIMIT_S)
        engine.again_at = time.monotonic() + wait
        self._tell(f"{engine.spec.id} {reason}; starting it again in {wait:.0f} s")

    def _give_up(self, engine: Engine, reason: str) -> None:
        engine.state, engine.message, engine.gave_up = "failed", reason, utcnow()
        self._tell(f"{engine.spec.id} {reason}")

    async def _publish(self) -> None:
        """Writes the rows that changed, and removes those of models that are gone."""
        rows: dict[str, Served] = {}
        for name, engine in self._engines.items():
            address = engine.endpoint.address if engine.endpoint and engine.state == "ready" else None
            pid = engine.process.pid if engine.process else None
            rows[name] = Served(name, engine.state, address, pid, engine.message)
            for adapter in self._wanted.adapters.get(name, ()):
                loaded = engine.adapters.get(adapter)
                if loaded is None:
                    waiting = "failed" if engine.state == "failed" else "starting"
                    rows[adapter] = Served(adapter, waiting, None, None, engine.message)
                else:
                    ready = loaded.state == "ready"
                    rows[adapter] = Served(adapter, loaded.state, address if ready else None, pid, loaded.message)
        gone = self._published.keys() - rows.keys()
        changed = [row for name, row in rows.items() if self._published.get(name) != row]
        if gone:
            await asyncio.to_thread(states.forget, self._database, gone)
        if changed:
            await asyncio.to_thread(states.publish, self._database, changed)
        self._published = rows
