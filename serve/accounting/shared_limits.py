"""Shares the limits of keys with the other gateways on the database, in the background of the event loop.

A gateway that is alone counts for itself. Once there are several, each admits requests from leases, and a request waits
only for the exchange of a lease that does not cover it. While the database does not answer, each gateway admits an
equal part of every limit, because it cannot know what the others admit.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, TypeVar, cast

from models.database import Database, new_ulid
from models.errors import ParleyError
from models.keys import KeyInfo
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.accounting.key_account import OpenClaim
from serve.accounting.leases import Claim, Grant, Peers, exchange_leases, leave
from serve.accounting.rate_limits import RateLimiter

_INTERVAL_S = 0.5  # of heartbeats, and of exchanges for which no request waits
_PAUSE_S = 0.01  # between exchanges, so that requests share one
_PATIENCE_S = 1.0  # after this time the database counts as unreachable
_DAY_S = 86_400
Result = TypeVar("Result")
_log = logging.getLogger("parley.gateway")


class _Answer(NamedTuple):
    peers: Peers
    grants: dict[str, Grant]


class SharedLimits:
    """One per gateway process. `open` and `close` run with it; everything but the exchange is for the event loop."""

    def __init__(
        self, database: Database, limiter: RateLimiter, flush_usage: Callable[[], None], place: str, least: int = 1
    ) -> None:
        """
        Args:
            flush_usage: writes what the gateway has counted to the usage table.
            place: where the gateway runs, the same after a restart.
            least: how many gateways share the limits at least, even before all of them have started.
        """
        self._database, self._limiter, self._flush_usage = database, limiter, flush_usage
        self._id, self._place, self._least = new_ulid(), place, least
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._gateways = 1
        self._reachable = True
        self._exchanging = False
        self._task: asyncio.Task[None] | None = None

    @property
    def gateways(self) -> int:
        """How many gateways share the limits."""
        return self._gateways

    async def open(self) -> None:
        """Joins the gateways. Raises ParleyError if the database is unreachable."""
        day = self._limiter.day()
        answer = await _in_thread(partial(self._exchange, {}, day))
        self._apply(answer, {}, day)
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Leaves the gateways."""
        if self._task is not None:
            self._task.cancel()
        self._release(self._waiting)
        with suppress(TimeoutError, ParleyError):
            await asyncio.wait_for(_in_thread(partial(leave, self._database, self._id)), _PATIENCE_S)

    async def lease(
        self, key: KeyInfo, spec: ModelSpec, prompt_bytes: int, max_tokens: int | None, choices: int
    ) -> None:
        """Returns once the key's lease covers a request, or once it is certain that it does not."""
        leased = self._limiter.key_lease(key, spec, prompt_bytes, max_tokens, choices)
        if leased is None:
            return
        lease, need = leased
        if lease.covers(need):
            if lease.runs_low and not self._exchanging:
                self._wake.set()
            return
        exchanged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(exchanged)
        lease.wait(need)
        self._wake.set()
        try:
            await exchanged
        finally:
            lease.stop_waiting(need)

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _INTERVAL_S)
            self._wake.clear()
            self._exchanging = True
            try:
                await self._exchange_once()
            except Exception:
                # If the task ended here, waiting requests would never be admitted.
                _log.exception("exchanging the leases of limits failed")
                self._lose_database("an internal error")
            finally:
                self._exchanging = False
            await asyncio.sleep(_PAUSE_S)

    async def _exchange_once(self) -> None:
        waiting, self._waiting = self._waiting, []
        claims, day = self._limiter.claims(), self._limiter.day()
        work = _in_thread(partial(self._exchange, {name: opened.claim for name, opened in claims.items()}, day))
        try:
            done, _ = await asyncio.wait({work}, timeout=_PATIENCE_S)
            if not done:
                self._lose_database("it does not answer in time")
                self._release(waiting)
            answer = await work
            if not done:
                return  # too slow to admit requests by
        except ParleyError as error:
            self._lose_database(str(error))
        else:
            if not self._reachable:
                _log.warning("the database answers again: limits of keys are shared by leases")
            self._reachable = True
            self._apply(answer, claims, day)
        finally:
            self._release(waiting)

    def _exchange(self, claims: dict[str, Claim], day: int) -> _Answer:
        """Runs in the thread."""
        if any(claim.limits.day_tokens or claim.limits.usd for claim in claims.values()):
            # The database then has counted everything that the claims no longer hold.
            self._flush_usage()
        today = datetime.fromtimestamp(day * _DAY_S, UTC).date()
        return _Answer(*exchange_leases(self._database, self._id, self._place, today, claims))

    def _apply(self, answer: _Answer, claims: dict[str, OpenClaim], day: int) -> None:
        self._gateways = max(len(answer.peers.ids), self._least)
        self._limiter.share(self._gateways, leased=self._gateways > 1)
        self._limiter.apply_grants(claims, answer.grants, day)

    def _lose_database(self, reason: str) -> None:
        if self._reachable and self._gateways > 1:
            _log.warning(
                "limits of keys cannot be shared: %s. Until it answers, this gateway admits 1/%d of each.",
                reason, self._gateways,
            )  # fmt: skip
        self._reachable = False
        self._limiter.share(self._gateways, leased=False)
        self._release(self._waiting)

    def _release(self, waiting: list["asyncio.Future[None]"]) -> None:
        for exchanged in waiting:
            if not exchanged.done():
                exchanged.set_result(None)
        waiting.clear()


def gateway_place(settings: Settings, worker: int) -> str:
    """Where a gateway runs: the host's name, port and worker number. It is part of a file's name too."""
    return f"{socket.gethostname()[:200]}-{settings.port}-{worker}"


def _in_thread(work: Callable[[], Result]) -> "asyncio.Future[Result]":
    """Runs work in a thread that cannot delay the end of the process, as a pool's can if the database hangs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def finish(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(Result, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="leases", daemon=True).start()
    return future
