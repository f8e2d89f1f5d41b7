"""One engine's life: start it, wait until it answers, probe it, hang adapters on it, drain it, start it again.

Each call makes one step; who decides what should run is `serve.fleet.supervisor`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

import aiohttp

from models.database import utcnow
from models.errors import ParleyError
from models.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_api, vllm_command
from serve.fleet.engine_states import STARTING, EngineStatus
from serve.fleet.machine import Machine
from serve.fleet.managed_engine import ASLEEP, Drain, ManagedEngine, Next, Work
from serve.fleet.memory import MemoryBudget
from serve.processes.children import spawn

_PROBE_EVERY_S = 10.0
_PROBE_AGAIN_S = 2.0
_PROBE_TIMEOUT_S = 10.0
_FROZEN_EVERY_S = 2.0
_FROZEN = "was stopped by a signal and did not go on"
# How long an engine that hangs can go unseen: a probe is due, fails, and so does the next, each with a look at the
# metrics. One that was stopped by a signal (SIGSTOP) is seen within two looks at the process table, 4 s.
DETECTION_S = _PROBE_EVERY_S + _PROBE_AGAIN_S + 2 * (_PROBE_TIMEOUT_S + engine_api.METRICS_TIMEOUT_S)
_GIVE_UP_AFTER = 5
BACKOFF_LIMIT_S = 60.0
_STEADY_S = 10.0
_MEMORY_AGAIN_S = 3.0
# The gateway reads the registry a few times a second: from then on nobody sends an engine that drains anything new.
_GATEWAY_SEES_S = 1.0
_IDLE_EVERY_S = 0.25
_USED_EVERY_S = 5.0  # an engine takes some milliseconds to tell its metrics
_log = logging.getLogger("parley.supervisor")


class EngineLifecycle:
    """Makes the steps. `wanted_adapters`: model id → spec of what should hang on an engine."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        memory: MemoryBudget,
        key: str,
        wanted_adapters: Callable[[str], dict[str, ModelSpec]],
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._memory = memory
        self._key = key
        self._wanted_adapters = wanted_adapters
        self._tell = tell

    async def step(self, session: aiohttp.ClientSession, engine: ManagedEngine, *, has_to_wait: bool) -> None:
        """One engine's next step. Runs as a task, so that a slow engine holds up no other."""
        try:
            if engine.drain is not None:
                await self._drain(session, engine, engine.drain)
            elif engine.share is None:
                return
            elif engine.process is None:
                if engine.gave_up is None and time.monotonic() >= engine.again_at and not has_to_wait:
                    await self._start(engine)
            elif engine.process.exit_code() is not None:
                # The port is refused from now on: say so before anything else.
                await self._start_again(engine, engine.process.exit_reason())
            elif self._is_frozen(engine):
                await self._start_again(engine, _FROZEN, hung=True)
            elif engine.state == "starting":
                await self._unless_frozen(engine, self._await_ready(session, engine))
            elif engine.state == "ready":
                await self._unless_frozen(engine, self._keep(session, engine))
        except ParleyError as error:
            _log.warning("%s: %s", engine.spec.id, error)

    async def _unless_frozen(self, engine: ManagedEngine, work: Coroutine[None, None, None]) -> None:
        """Does what waits for an engine's answers, and looks at its processes meanwhile as ever."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_FROZEN_EVERY_S / 4)
                # Without an endpoint it is being ended already.
                if not task.done() and engine.endpoint is not None and self._is_frozen(engine):
                    task.cancel()
                    await asyncio.wait({task})
                    await self._start_again(engine, _FROZEN, hung=True)
                    return
        finally:
            task.cancel()
        task.result()

    def give_up(self, engine: ManagedEngine, reason: str) -> None:
        """It is not started any more until somebody asks for it."""
        engine.state, engine.message, engine.gave_up = "failed", reason, utcnow()
        engine.share, engine.wished, engine.memory_bytes = None, None, None
        self._tell(f"{engine.spec.id} {reason}")

    async def _start(self, engine: ManagedEngine) -> None:
        assert engine.share is not None
        if (missing := self._memory.startable(engine.spec, engine.share)) is not None:
            engine.message, engine.again_at = missing, time.monotonic() + _MEMORY_AGAIN_S
            return
        adapters = len(self._wanted_adapters(engine.spec.id))
        port = vllm_command.free_port()
        try:
            how = vllm_command.launch_options(engine.spec, adapters)
            command = vllm_command.command(engine.spec, engine.share, port=port, key=self._key, adapters=adapters)
            engine.process = spawn(command, self._settings.logs_dir)
        except ParleyError as error:
            await self._start_again(engine, str(error))
            return
        engine.lora, engine.reasoning, engine.embeds = how.lora, how.parsers.reasoning, how.embeds
        engine.endpoint = vllm_command.Endpoint(f"http://127.0.0.1:{port}", self._key)
        engine.since, engine.missed, engine.worked, engine.frozen = time.monotonic(), 0, None, False
        engine.canaries, engine.counted = 0, 0.0
        engine.memory_bytes = self._memory.need(engine.spec, engine.share).total
        engine.state = "starting"
        engine.message = f"starting again: it {engine.failure}" if engine.failure else STARTING
        engine.adapters, engine.leaving = {}, {}
        self._tell(f"{engine.spec.id} starts")

    async def _await_ready(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        if await self._answers(session, engine, timeout_s=20):
            took = time.monotonic() - engine.since
            engine.state, engine.message, engine.failure = "ready", "", ""
            engine.since = engine.probed = engine.used = time.monotonic()
            self._tell(f"{engine.spec.id} is ready, after {took:.0f} s")
            await self._match_adapters(session, engine)
        elif time.monotonic() - engine.since > self._settings.engine_start_timeout_s:
            reason = f"not ready within {self._settings.engine_start_timeout_s:.0f} s"
            await self._start_again(engine, reason, hung=True)

    async def _keep(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        assert engine.endpoint is not None
        wanted = self._wanted_adapters(engine.spec.id)
        if wanted and not engine.embeds:
            how = vllm_command.launch_options(engine.spec, len(wanted))
            if not engine.lora or how.parsers.reasoning != engine.reasoning:
                begin_drain(engine, "start again", "starting again, to take adapters")
                return
        await self._match_adapters(session, engine)
        if time.monotonic() - engine.looked_used > _USED_EVERY_S:
            await self._note_use(session, engine)
        if time.monotonic() - engine.probed < (_PROBE_AGAIN_S if engine.missed else _PROBE_EVERY_S):
            return
        answered = await self._answers(session, engine, _PROBE_TIMEOUT_S)
        engine.probed = time.monotonic()
        if answered:
            engine.missed, engine.worked = 0, None
            return
        # A busy engine answers late; one that hangs has work waiting and makes no progress.
        before, engine.worked = engine.worked, await self._work_of(session, engine)
        moved = before is not None and engine.worked.moved_since(before)
        engine.missed = 1 if before is None or moved else engine.missed + 1
        if engine.missed >= 2:
            await self._start_again(engine, "made no token and no progress", hung=True)

    async def _answers(self, session: aiohttp.ClientSession, engine: ManagedEngine, timeout_s: float) -> bool:
        assert engine.endpoint is not None
        answered = await engine_api.probe_generation(
            session, engine.endpoint, engine.spec.id, timeout_s, embeds=engine.embeds
        )
        engine.canaries += answered
        return answered

    async def _note_use(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        """When it was last asked for something by others than ourselves."""
        assert engine.endpoint is not None
        engine.looked_used = time.monotonic()
        seen = await engine_api.read_load(session, engine.endpoint)
        if seen is None:
            return
        theirs = seen.finished - engine.canaries
        if theirs > engine.counted or not seen.idle:
            engine.used = time.monotonic()
        engine.counted = max(theirs, engine.counted)

    async def _work_of(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> Work:
        assert engine.endpoint is not None
        assert engine.process is not None
        seen = await engine_api.read_load(session, engine.endpoint)
        # On a CPU one step over a long prompt can take minutes, with no token to show for it but the CPU time.
        used = engine.process.cpu_seconds() if self._machine.device == "cpu" else 0.0
        return Work(seen.tokens if seen else None, used, time.monotonic())

    def _is_frozen(self, engine: ManagedEngine) -> bool:
        """Whether a process of its was stopped by a signal, at two looks one after the other."""
        assert engine.process is not None
        if time.monotonic() - engine.looked_frozen < _FROZEN_EVERY_S:
            return False
        engine.looked_frozen = time.monotonic()
        before, engine.frozen = engine.frozen, engine.process.is_frozen(whole_tree=True)
        return before and engine.frozen

    async def _match_adapters(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        """Loads what should hang on the engine and unloads what should not."""
        assert engine.endpoint is not None
        wanted = {} if engine.embeds else self._wanted_adapters(engine.spec.id)
        now = time.monotonic()
        for name in [name for name in engine.adapters if name not in wanted]:
            # Its running requests hold what they need; what the gateway is just sending must still find the name.
            if now - engine.leaving.setdefault(name, now) < _GATEWAY_SEES_S:
                continue
            del engine.adapters[name], engine.leaving[name]
            await engine_api.unload_adapter(session, engine.endpoint, name)
            self._tell(f"{name} unloaded")
        for name, spec in wanted.items():
            if name in engine.adapters:
                continue
            try:
                await engine_api.load_adapter(session, engine.endpoint, name, str(spec.path))
            except ParleyError as error:
                if engine.process is None or engine.process.exit_code() is not None:
                    return
                engine.adapters[name] = EngineStatus(name, "failed", message=str(error))
                self._tell(f"{name} cannot be loaded: {error}")
            else:
                engine.adapters[name] = EngineStatus(name, "ready")
                self._tell(f"{name} is ready, on {engine.spec.id}")

    async def _drain(self, session: aiohttp.ClientSession, engine: ManagedEngine, drain: Drain) -> None:
        """Waits until its running requests have ended, up to the limit, and stops it."""
        await self._until_idle(session, engine, drain)
        process, engine.endpoint = engine.process, None
        if process is not None:
            # It is ours until it is gone: the parent kills what falls to it and has no owner, without a grace.
            await asyncio.to_thread(process.stop)
        engine.process, engine.adapters, engine.leaving, engine.drain = None, {}, {}, None
        if drain.then == "start again":
            engine.state, engine.message, engine.again_at = "starting", drain.why, 0.0
            return
        engine.share, engine.memory_bytes = None, None
        engine.state, engine.message = "stopped", ASLEEP
        self._tell(f"{engine.spec.id} {'sleeps' if drain.then == 'sleep' else 'stopped'}: {drain.why}")

    async def _until_idle(self, session: aiohttp.ClientSession, engine: ManagedEngine, drain: Drain) -> None:
        if engine.endpoint is None:
            return
        await asyncio.sleep(max(drain.began + _GATEWAY_SEES_S - time.monotonic(), 0))
        while time.monotonic() - drain.began < self._settings.drain_timeout_s:
            if engine.process is None or engine.process.exit_code() is not None:
                return
            seen = await engine_api.read_load(session, engine.endpoint)
            if seen is not None and seen.idle:
                return
            await asyncio.sleep(_IDLE_EVERY_S)
        self._tell(f"{engine.spec.id} is stopped with requests running, after {self._settings.drain_timeout_s:.0f} s")

    async def _start_again(self, engine: ManagedEngine, reason: str, *, hung: bool = False) -> None:
        """Ends what is left of an engine and schedules its next start, later each time it comes to nothing."""
        if engine.state == "ready":
            engine.attempts, engine.ends = 0, (0 if time.monotonic() - engine.since > _STEADY_S else engine.ends) + 1
        else:
            engine.attempts, engine.ends = engine.attempts + 1, engine.ends + 1
        process, engine.endpoint = engine.process, None
        engine.adapters, engine.leaving = {}, {}
        engine.state, engine.message, engine.since = "starting", reason, time.monotonic()
        engine.failure = reason
        if process is not None:
            await asyncio.to_thread(process.kill if hung else process.stop)
        engine.process = None
        if engine.attempts >= _GIVE_UP_AFTER:
            self.give_up(engine, f"gave up after {engine.attempts} starts: {reason}")
            return
        wait = min(2.0 ** (engine.ends - 2), BACKOFF_LIMIT_S) if engine.ends > 1 else 0.0
        engine.again_at = time.monotonic() + wait
        self._tell(f"{engine.spec.id} {reason}; starting it again in {wait:.0f} s")


def begin_drain(engine: ManagedEngine, then: Next, why: str) -> None:
    """From now on nobody new is sent to it. What it is in the middle of is cut short by whoever calls this."""
    if engine.state != "ready":
        # Nobody was ever sent to it, so there is nothing to wait for.
        engine.endpoint = None
    engine.drain = Drain(then, why, time.monotonic())
    engine.state = "starting" if then == "start again" else "stopped"
    engine.message = why if then == "start again" else ASLEEP
    engine.asleep_since = utcnow()
