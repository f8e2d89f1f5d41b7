"""What one request used and how it ended, and what that adds to the rate limits, the logs and the metrics.

The gateway fills a `RequestRecord` in. Nothing here knows how a request is answered.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator

from models.database import Database
from models.evaluation_events import open_evaluation_events
from models.keys import KeyInfo
from models.settings.settings import Settings
from models.spec import ModelSpec
from models.usage import cost
from serve.accounting.metrics import Metrics
from serve.accounting.rate_limits import Admission, RateLimited, RateLimiter
from serve.accounting.request_logs import AccessLog, UsageLog
from serve.accounting.shared_limits import SharedLimits, gateway_place
from serve.accounting.telemetry import FinishedRequest, open_telemetry
from serve.transport.asgi import Headers, Scope, header

# Estimates for responses without a usage count: bytes of plain JSON per token, and of a streamed chunk (about one
# token).
_BYTES_PER_TOKEN, _BYTES_PER_CHUNK = 4, 256
_PROBES = frozenset({"/health", "/ready"})  # requested every few seconds, also by our own parent process
_TEXT_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})


def _request_ids() -> Iterator[bytes]:
    """128 random bits each, drawn a hundred at a time: a system call costs the same for few bytes and many."""
    while True:
        drawn = os.urandom(1600).hex().encode()
        for start in range(0, len(drawn), 32):
            yield b"req_" + drawn[start : start + 32]


_next_request_id = _request_ids().__next__


class RequestRecord:
    """The state of one request. `response_headers` are sent with any response or error."""

    # Defaults live on the class: most requests never change them, so they cost nothing per request.
    status = 0
    finished = False
    client_gone = False
    dispatched = False  # sent on to an engine or an upstream
    model = ""
    key: KeyInfo | None = None
    admission: Admission | None = None
    prompt_bytes = prompt_tokens = completion_tokens = sent_bytes = 0
    stream = False
    metered = True  # whether its tokens are counted
    ttft_s: float | None = None  # time to the first piece of a stream
    fault = ""  # how a started stream broke

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.request_id = _next_request_id()
        self.response_headers: Headers = []

    def seconds(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self.began


class RequestAccounting:
    """One per gateway. `open` and `close` run with its process, everything else on the event loop."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        metrics: Metrics,
        find_spec: Callable[[str], ModelSpec | None],
        worker: int = 1,
    ) -> None:
        """`find_spec` returns the current spec of a model id, which holds its prices. `worker`: this process's number
        among those of `gateway_workers`.
        """
        self._database = database
        self._metrics = metrics
        self._find_spec = find_spec
        self._limiter = RateLimiter()
        place = gateway_place(settings, worker)
        self._usage = UsageLog(database, place, settings.home / "usage" / f"{place}.json")
        # One process on SQLite is alone; others count the gateways on their database.
        self._shared: SharedLimits | None = None
        if not database.is_sqlite or settings.gateway_workers > 1:
            self._shared = SharedLimits(database, self._limiter, self._usage.flush, place, settings.gateway_workers)
        # Each process rotates its own file.
        log = "access.log" if worker == 1 else f"access-{worker}.log"
        self._access_log = AccessLog(settings.logs_dir / log) if settings.access_log else None
        self._telemetry = open_telemetry(settings)
        self._settings = settings
        self._close_events: Callable[[], None] | None = None

    async def open(self) -> None:
        """Reads today's usage and starts the writer threads. Raises ParleyError if the database is unreachable."""
        await asyncio.to_thread(self._limiter.load, self._database)
        if self._shared is not None:
            await self._shared.open()
        self._usage.start()
        if self._access_log is not None:
            self._access_log.start()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.start)
            # Feedback that clients send.
            self._close_events = await asyncio.to_thread(open_evaluation_events, self._settings)

    async def close(self) -> None:
        """Writes everything recorded so far and stops the writer threads."""
        await asyncio.to_thread(self._usage.stop)
        if self._shared is not None:
            await self._shared.close()
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.stop)
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.stop)
        if self._close_events is not None:
            await asyncio.to_thread(self._close_events)

    @property
    def leases(self) -> SharedLimits | None:
        """Where `lease` must be awaited before a request of a key is admitted; None if this gateway is alone."""
        shared = self._shared
        return shared if shared is not None and shared.gateways > 1 else None

    def admit(
        self, record: RequestRecord, spec: ModelSpec, prompt_bytes: int, max_tokens: int | None, choices: int = 1
    ) -> None:
        """Admits a request if its key's limits allow it, and adds the rate limit headers to its response.

        Raises:
            RateLimited: a limit is reached. Forbidden: the key has a budget in money and the model has no price.
        """
        record.prompt_bytes = prompt_bytes
        key = record.key
        try:
            admission = self._limiter.admit(key, spec, prompt_bytes, max_tokens, choices)
        except RateLimited as error:
            self._metrics.limited(key.name if key else "", error.kind)
            raise
        record.admission = admission
        record.response_headers += admission.headers

    def record(self, scope: Scope, route: str, record: RequestRecord) -> None:
        """Accounts for a finished request. `route` is one of the gateway's own, never text from a client."""
        key, model, status = record.key, record.model, record.status
        key_name = key.name if key is not None else ""
        seconds = record.seconds()
        if model:
            self._record_usage(route, record, key, model, key_name, status)
        self._metrics.answered(route, model, status, seconds, key_name)
        if self._telemetry is not None and model:
            self._telemetry.record(
                FinishedRequest(
                    route, model, self._find_spec(model), status, time.time(), seconds, record.ttft_s,
                    record.prompt_tokens, record.completion_tokens, record.fault, header(scope, b"traceparent"),
                )
            )  # fmt: skip
        if self._access_log is not None and route not in _PROBES:
            client = scope.get("client")
            self._access_log.line(
                (
                    time.time(), record.request_id, client[0] if client else "", key_name, scope["method"], route,
                    model, status, seconds, record.ttft_s, record.prompt_tokens, record.completion_tokens,
                    record.stream, record.sent_bytes, record.fault,
                )
            )  # fmt: skip

    def _record_usage(
        self, route: str, record: RequestRecord, key: KeyInfo | None, model: str, key_name: str, status: int
    ) -> None:
        used = record.metered and ((record.sent_bytes and status == 200) or (record.client_gone and record.dispatched))
        if used and not record.prompt_tokens:
            # The client disconnected, the stream broke, or the upstream reports no usage: estimate it.
            record.prompt_tokens = record.prompt_bytes // _BYTES_PER_TOKEN + 1
            if route in _TEXT_ROUTES:
                size = _BYTES_PER_CHUNK if record.stream else _BYTES_PER_TOKEN
                record.completion_tokens = record.sent_bytes // size + 1
        prompt, completion = record.prompt_tokens, record.completion_tokens
        usd = 0.0
        spec = self._find_spec(model)
        if spec is not None and spec.upstream is not None:
            usd = cost(spec, prompt, completion)
        if record.admission is not None:
            record.admission.settle(prompt, completion, usd)
        # 499 means the client disconnected, which is not a failure.
        ok = not record.fault and (status < 400 or status == 499)
        self._usage.record(key.id if key is not None else None, model, prompt, completion, ok, usd)
        if prompt or completion:
            self._metrics.used(model, prompt, completion, key_name, usd)
