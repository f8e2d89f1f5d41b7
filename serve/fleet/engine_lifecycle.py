"""One engine's lifecycle: start, wait until ready, probe, load adapters, drain, restart.

Each call makes one step; `serve.fleet.supervisor` decides what should run.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

import aiohttp

from models.database import utcnow
from models.errors import ParleyError
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_api, engine_states, vllm_command
from serve.fleet.engine_failures import FROZEN, HUNG, NOT_READY, advice
from serve.fleet.engine_host import EngineHost, NoPlace
from serve.fleet.engine_launch import EngineLaunch
from serve.fleet.engine_states import STARTING
from serve.fleet.hub_files import download_small_files
from serve.fleet.lora_adapters import sync_adapters
from serve.fleet.managed_engine import (
    ASLEEP,
    GATEWAY_NOTICES_S,
    WORKING_SHARE,
    AfterDrain,
    Drain,
    ManagedEngine,
    Work,
)
from serve.fleet.memory import MemoryBudget
from serve.fleet.replicas import Replicas

_PROBE_INTERVAL_S = 10.0
_PROBE_RETRY_S = 2.0
_PROBE_TIMEOUT_S = 10.0
_FROZEN_INTERVAL_S = 2.0
# How long a hanging engine can go unnoticed: until a probe is due, fails, and the next one fails too, each followed by
# reading the metrics. An engine that a signal has stopped (SIGSTOP) is noticed within two looks at the process table, 4
# s.
DETECTION_S = _PROBE_INTERVAL_S + _PROBE_RETRY_S + 2 * (_PROBE_TIMEOUT_S + engine_api.METRICS_TIMEOUT_S)
_MAX_ATTEMPTS = 5
BACKOFF_LIMIT_S = 60.0
_READY_TIMEOUT_S = 60.0
_WARM_UP_TIMEOUT_S = 120.0
_STALL_SHARE = 0.1  # a start may exceed its time limit while it makes progress in each tenth of that time
_MEMORY_RETRY_S = 3.0
_IDLE_INTERVAL_S = 0.25
_USE_INTERVAL_S = 5.0  # an engine takes some milliseconds to render its metrics
_log = logging.getLogger("parley.supervisor")


class EngineLifecycle:
    """Makes the steps. `replicas`: the other engines of each model, and the adapters that each should serve."""

    def __init__(
        self,
        settings: Settings,
        host: EngineHost,
        memory: MemoryBudget,
        key: str,
        replicas: Replicas,
        report: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._host = host
        self._memory = memory
        self._key = key
        self._replicas = replicas
        self._report = report

    async def step(
        self, session: aiohttp.ClientSession, engine: ManagedEngine, must_wait: Callable[[ManagedEngine], bool]
    ) -> None:
        """Makes an engine's next step. Runs as a task, so that a slow engine does not delay others.

        Args:
            must_wait: whether an engine may not start yet. Asked here, because others may start in the same round.
        """
        try:
            if engine.drain is not None:
                await self._drain(session, engine, engine.drain)
            elif engine.share is None:
                return
            elif engine.process is None:
                if engine.gave_up_at is None and time.monotonic() >= engine.retry_at:
                    await self._download(engine)
                    if not must_wait(engine):
                        await self._start(engine)
            elif engine.process.exit_code() is not None:
                # Updated first of all, because the port refuses connections from now on.
                await self._restart(engine, engine.process.exit_reason())
            elif self._is_frozen(engine):
                await self._restart(engine, FROZEN, hung=True)
            elif engine.state == "starting":
                await self._watch_for_freeze(engine, self._check_ready(session, engine))
            elif engine.state == "ready":
                await self._watch_for_freeze(engine, self._maintain(session, engine))
        except ParleyError as error:
            _log.warning("%s: %s", engine.name, error)

    async def _watch_for_freeze(self, engine: ManagedEngine, work: Coroutine[None, None, None]) -> None:
        """Runs `work`, which waits for the engine's responses, and keeps checking for a frozen process meanwhile."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_FROZEN_INTERVAL_S / 4)
                # Without an endpoint the engine is already being stopped.
                if not task.done() and engine.endpoint is not None and self._is_frozen(engine):
                    task.cancel()
                    await asyncio.wait({task})
                    await self._restart(engine, FROZEN, hung=True)
                    return
        finally:
            task.cancel()
        task.result()

    def give_up(self, engine: ManagedEngine, reason: str) -> None:
        """Stops trying to start an engine until a request asks for it."""
        engine.state, engine.message, engine.gave_up_at = "failed", reason, utcnow()
        engine.share, engine.requested_at, engine.memory_bytes = None, None, None
        self._report(f"{engine.name} {reason}")

    async def _download(self, engine: ManagedEngine) -> None:
        """Downloads what the start needs, before the engine occupies its GPU: a slow hub must not delay others."""
        if not engine.downloaded:
            await download_small_files(engine.spec, self._settings.hub_token)
            engine.downloaded = True

    async def _start(self, engine: ManagedEngine) -> None:
        assert engine.share is not None
        missing = self._host.missing_for_start(engine.spec, engine.share)
        engine.lacks_memory = missing is not None
        if missing is not None:
            engine.message, engine.retry_at = missing, time.monotonic() + _MEMORY_RETRY_S
            return
        adapters = len(self._replicas.adapters_of(engine))
        engine.preparing, engine.downloaded = True, False  # a start that fails downloads again
        try:
            options = vllm_command.launch_options(engine.spec, adapters)
            launch = self._launch(engine, adapters)
            started = await self._host.start(launch)
        except NoPlace as error:
            engine.message, engine.unplaced, engine.retry_at = str(error), True, time.monotonic() + _MEMORY_RETRY_S
            return
        except (ParleyError, OSError) as error:
            await self._restart(engine, str(error))
            return
        finally:
            engine.preparing = False
        engine.lora, engine.reasoning, engine.embeds = options.lora, options.parsers.reasoning, options.embeds
        engine.refuses_adapters = options.refuses_adapters
        engine.process, engine.endpoint, engine.unplaced = started.process, started.endpoint, False
        engine.since, engine.missed_probes, engine.worked, engine.frozen = time.monotonic(), 0, None, False
        engine.activity, engine.progressing = None, True
        engine.own_probes, engine.requests_counted, engine.load = 0, 0.0, 0.0
        engine.memory_bytes = launch.memory_bytes
        engine.state = "starting"
        engine.message = f"starting again: it {engine.failure}" if engine.failure else STARTING
        engine.adapters, engine.leaving = {}, {}
        self._report(f"{engine.name} is starting" + (f" on {started.place}" if started.place else ""))

    def _launch(self, engine: ManagedEngine, adapters: int) -> EngineLaunch:
        assert engine.share is not None
        return EngineLaunch(
            engine.name,
            engine.spec,
            engine.share,
            adapters,
            self._memory.need(engine.spec, engine.share).total,
            engine_states.engine_key(self._key, engine.name),
            self._settings.home,
            vllm_command.MODULE,
            self._settings.hub_token,
        )

    async def _check_ready(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        try:
            ready = await self._probe(session, engine, _READY_TIMEOUT_S) and await self._warm_up(session, engine)
        except engine_api.CertificateRejected as error:
            await self._restart(engine, str(error))
            return
        if ready:
            took = time.monotonic() - engine.since
            engine.state, engine.message, engine.failure = "ready", "", ""
            engine.since = engine.probed_at = engine.used = time.monotonic()
            self._report(f"{engine.name} is ready, after {took:.0f} s")
            await self._sync_adapters(session, engine)
        elif self._start_is_over(engine):
            limit = self._settings.longest_start_s if engine.progressing else self._settings.engine_start_timeout_s
            stalled = "" if engine.progressing else " and made no more progress"
            await self._restart(engine, f"{NOT_READY} {limit:.0f} s{stalled}", hung=True)

    async def _warm_up(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> bool:
        """Requests log-probabilities, so that the engine compiles what they need; returns whether it answered."""
        assert engine.endpoint is not None
        if engine.embeds:
            return True
        status = await engine_api.request_logprobs(session, engine.endpoint, engine.spec.id, _WARM_UP_TIMEOUT_S)
        engine.own_probes += status == 200
        return status is not None and status < 500  # an engine whose options disable log-probabilities answers 400

    def _start_is_over(self, engine: ManagedEngine) -> bool:
        """Whether a start has exceeded `engine_start_timeout_s` without progress, or the longest start in any case."""
        limit, took = self._settings.engine_start_timeout_s, time.monotonic() - engine.since
        before = engine.activity
        if before is None or time.monotonic() - before.at >= limit * _STALL_SHARE:
            assert engine.process is not None
            engine.activity = self._host.measure_activity(engine.process)
            if before is not None:
                worked = engine.activity.worked_since(before, WORKING_SHARE)
                engine.progressing = worked or engine.activity.moved_data_since(before)
        return took > self._settings.longest_start_s or (took > limit and not engine.progressing)

    async def _maintain(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        assert engine.endpoint is not None
        if self._needs_other_options(engine):
            if self._replicas.may_restart(engine):
                begin_drain(engine, "restart", "restarting to load adapters")
                return
        else:
            await self._sync_adapters(session, engine)
        if time.monotonic() - engine.use_checked_at > _USE_INTERVAL_S:
            await self._update_last_use(session, engine)
        if time.monotonic() - engine.probed_at < (_PROBE_RETRY_S if engine.missed_probes else _PROBE_INTERVAL_S):
            return
        answered = await self._probe(session, engine, _PROBE_TIMEOUT_S)
        engine.probed_at = time.monotonic()
        if answered:
            engine.missed_probes, engine.worked = 0, None
            return
        # A busy engine answers late; a hanging one has requests waiting and makes no progress.
        before, engine.worked = engine.worked, await self._measure_work(session, engine)
        moved = before is not None and engine.worked.moved_since(before)
        engine.missed_probes = 1 if before is None or moved else engine.missed_probes + 1
        if engine.missed_probes >= 2:
            await self._restart(engine, HUNG, hung=True)

    def _needs_other_options(self, engine: ManagedEngine) -> bool:
        """Whether the engine has to be restarted for its adapters."""
        adapters = self._replicas.adapters_of(engine)
        if not adapters or engine.embeds or engine.refuses_adapters:
            return False
        return (
            not engine.lora
            or vllm_command.launch_options(engine.spec, len(adapters)).parsers.reasoning != engine.reasoning
        )

    async def _probe(self, session: aiohttp.ClientSession, engine: ManagedEngine, timeout_s: float) -> bool:
        assert engine.endpoint is not None
        answered = await engine_api.probe_generation(
            session, engine.endpoint, engine.spec.id, timeout_s, embeds=engine.embeds
        )
        engine.own_probes += answered
        return answered

    async def _update_last_use(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        """Updates when the engine last had a request other than our own probes."""
        assert engine.endpoint is not None
        engine.use_checked_at = time.monotonic()
        load = await engine_api.read_load(session, engine.endpoint)
        if load is None:
            return
        engine.load = load.running + load.waiting
        theirs = load.finished - engine.own_probes
        if theirs > engine.requests_counted or not load.idle:
            engine.used = time.monotonic()
        engine.requests_counted = max(theirs, engine.requests_counted)

    async def _measure_work(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> Work:
        assert engine.endpoint is not None
        assert engine.process is not None
        process = engine.process
        load = await engine_api.read_load(session, engine.endpoint)
        return Work(load.tokens if load else None, self._host.measure_activity(process))

    def _is_frozen(self, engine: ManagedEngine) -> bool:
        """Whether a process of the engine was found stopped by a signal in two looks in a row."""
        assert engine.process is not None
        if time.monotonic() - engine.frozen_checked_at < _FROZEN_INTERVAL_S:
            return False
        engine.frozen_checked_at = time.monotonic()
        before, engine.frozen = engine.frozen, engine.process.is_frozen(whole_tree=True)
        return before and engine.frozen

    async def _sync_adapters(self, session: aiohttp.ClientSession, engine: ManagedEngine) -> None:
        wanted = {} if engine.embeds or engine.refuses_adapters else self._replicas.adapters_wanted_on(engine)
        process = engine.process
        assert process is not None

        async def locate(adapter: ModelSpec) -> str:
            return await self._host.locate(process, adapter)

        await sync_adapters(session, engine, wanted, locate, self._report)

    async def _drain(self, session: aiohttp.ClientSession, engine: ManagedEngine, drain: Drain) -> None:
        """Waits for the engine's running requests up to the limit, then stops it."""
        await self._wait_until_idle(session, engine, drain)
        process, engine.endpoint = engine.process, None
        if process is not None:
            # `engine.process` is kept until the process is gone: the parent kills unknown child processes without a
            # grace.
            await asyncio.to_thread(process.stop)
        engine.process, engine.adapters, engine.leaving, engine.drain = None, {}, {}, None
        if drain.then == "restart":
            engine.state, engine.message, engine.retry_at = "starting", drain.why, 0.0
            return
        engine.share, engine.memory_bytes = None, None
        engine.state, engine.message, engine.removed = "stopped", ASLEEP, drain.then == "remove"
        self._report(f"{engine.name} {'sleeps' if drain.then == 'sleep' else 'stopped'}: {drain.why}")

    async def _wait_until_idle(self, session: aiohttp.ClientSession, engine: ManagedEngine, drain: Drain) -> None:
        if engine.endpoint is None:
            return
        await asyncio.sleep(max(drain.began + GATEWAY_NOTICES_S - time.monotonic(), 0))
        while time.monotonic() - drain.began < self._settings.drain_timeout_s:
            if engine.process is None or engine.process.exit_code() is not None:
                return
            load = await engine_api.read_load(session, engine.endpoint)
            if load is not None and load.idle:
                return
            await asyncio.sleep(_IDLE_INTERVAL_S)
        self._report(
            f"{engine.name} is stopped with requests still running, after {self._settings.drain_timeout_s:.0f} s"
        )

    async def _restart(self, engine: ManagedEngine, reason: str, *, hung: bool = False) -> None:
        """Stops an engine's remaining processes and schedules its next start, with a growing delay after failures.

        After several failures of the same kind in a row, its state becomes `failed`.
        """
        was_ready = engine.state == "ready"
        engine.failures = engine.failures.add(reason, time.monotonic() - engine.since if was_ready else None)
        engine.attempts = 0 if was_ready else engine.attempts + 1
        process, engine.endpoint = engine.process, None
        if hung and process is not None and (words := process.last_words()):
            reason = f"{reason}: {words}"
        engine.adapters, engine.leaving = {}, {}
        engine.state, engine.message, engine.since = "starting", reason, time.monotonic()
        engine.failure = reason
        if process is not None:
            await asyncio.to_thread(process.kill if hung else process.stop)
        engine.process = None
        failures = engine.failures
        if failures.too_many or engine.attempts >= _MAX_ATTEMPTS:
            engine.attempts = max(engine.attempts, 1)  # it waits for a request, not for room
            count = failures.alike if failures.too_many else engine.attempts
            what_to_try = advice(failures.kind, reason)
            self.give_up(engine, f"gave up after {count} failures in a row: {reason.rstrip('.')}. {what_to_try}")
            return
        wait = min(2.0 ** (failures.count - 2), BACKOFF_LIMIT_S) if failures.count > 1 else 0.0
        engine.retry_at = time.monotonic() + wait
        self._report(f"{engine.name} {reason}; restarting in {wait:.0f} s")


def begin_drain(engine: ManagedEngine, then: AfterDrain, why: str) -> None:
    """Stops new requests to an engine, before it is stopped. The caller cancels the engine's current step."""
    if engine.state != "ready":
        # An engine that is not ready has no requests to wait for.
        engine.endpoint = None
    engine.drain = Drain(then, why, time.monotonic())
    engine.state = "starting" if then == "restart" else "stopped"
    engine.message = why if then == "restart" else ASLEEP
    engine.asleep_since = utcnow()
