"""What a request leaves behind: its key's limits, its usage, its figures, its line in the log. One place for all four.

It knows what each of them needs to be told, and nothing of how a request is answered.
"""

import asyncio
import time

from models.database import Database
from models.keys import KeyInfo
from models.settings import Settings
from models.usage import cost
from serve.accounting.access_log import AccessLog
from serve.accounting.metrics import Metrics
from serve.accounting.rate_limits import Limits, RateLimited
from serve.accounting.usage_log import UsageLog
from serve.gateway.snapshot import Route, Watcher
from serve.transport.responses import Exchange, Scope

# Where nobody has said what an answer used: bytes of plain JSON for a token, and bytes of a streamed chunk, which is
# about one.
_BYTES_A_TOKEN, _BYTES_A_CHUNK = 4, 256
_PROBES = frozenset({"/health", "/ready"})  # asked every few seconds, by our own parent too
_ANSWERED_WITH_TEXT = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses"})


class Ledger:
    """One for each gateway. `open` and `close` with its process, everything else on the event loop."""

    def __init__(self, settings: Settings, database: Database, watcher: Watcher, metrics: Metrics) -> None:
        self._database = database
        self._watcher = watcher
        self._metrics = metrics
        self._limits = Limits()
        self._usage = UsageLog(database)
        self._log = AccessLog(settings.logs_dir / "access.log") if settings.access_log else None

    async def open(self) -> None:
        """Reads what was used today, and begins to write. Raises ParleyError where the database is not there."""
        await asyncio.to_thread(self._limits.load, self._database)
        self._usage.start()
        if self._log is not None:
            self._log.start()

    async def close(self) -> None:
        """Writes everything that was noted, and ends."""
        await asyncio.to_thread(self._usage.stop)
        if self._log is not None:
            await asyncio.to_thread(self._log.stop)

    def admit(
        self, exchange: Exchange, route: Route, prompt_bytes: int, most_tokens: int | None, answers: int = 1
    ) -> None:
        """Lets a request for a model in, if its key's limits do; its answer will say what is left of them.

        Raises:
            RateLimited: not now. Forbidden: the key has a budget in money, and nobody knows what the model costs.
        """
        exchange.prompt_bytes = prompt_bytes
        key = exchange.key
        try:
            admission = self._limits.admit(key, route.spec, prompt_bytes, most_tokens, answers)
        except RateLimited as error:
            self._metrics.limited(key.name if key else "", error.kind)
            raise
        exchange.admission = admission
        exchange.extra += admission.headers

    def note(self, scope: Scope, route: str, exchange: Exchange) -> None:
        """A request is over, whatever became of it. `route` is one of our own, never what a client wrote."""
        key, model, status = exchange.key, exchange.model, exchange.status
        name = key.name if key is not None else ""
        seconds = exchange.seconds()
        if model:
            self._used(route, exchange, key, model, name, status)
        self._metrics.answered(route, model, status, seconds, name)
        if self._log is not None and route not in _PROBES:
            client = scope.get("client")
            self._log.line(
                (
                    time.time(), exchange.request_id, client[0] if client else "", name, scope["method"], route, model,
                    status, seconds, exchange.first_s, exchange.prompt_tokens, exchange.completion_tokens,
                    exchange.stream, exchange.sent, exchange.fault,
                )
            )  # fmt: skip

    def _used(self, route: str, exchange: Exchange, key: KeyInfo | None, model: str, name: str, status: int) -> None:
        begun = (exchange.sent and status == 200) or (exchange.gone and exchange.asked)
        if begun and not exchange.prompt_tokens:
            # The client left, the stream broke, or the upstream does not count: it was used all the same.
            exchange.prompt_tokens = exchange.prompt_bytes // _BYTES_A_TOKEN + 1
            if route in _ANSWERED_WITH_TEXT:
                size = _BYTES_A_CHUNK if exchange.stream else _BYTES_A_TOKEN
                exchange.completion_tokens = exchange.sent // size + 1
        prompt, completion = exchange.prompt_tokens, exchange.completion_tokens
        usd = 0.0
        known = self._watcher.current.routes.get(model)
        if known is not None and known.spec.upstream is not None:
            usd = cost(known.spec, prompt, completion)
        if exchange.admission is not None:
            exchange.admission.settle(prompt, completion, usd)
        # 499: the client has left, which is nobody's fault.
        ok = not exchange.fault and (status < 400 or status == 499)
        self._usage.note(key.id if key is not None else None, model, prompt, completion, ok, usd)
        if prompt or completion:
            self._metrics.used(model, prompt, completion, name, usd)
