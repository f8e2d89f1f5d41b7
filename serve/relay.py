"""One request on its way to a model and back: the steps in their order, and the end of it when the client goes.

Each step is a file: serve/bodies.py reads, serve/asked.py understands, serve/starting.py waits for a model that starts,
serve/forwarding.py sends on and brings back.
"""

import asyncio

from models.database import Database
from models.keys import KeyInfo
from models.settings import Settings
from serve import access
from serve.asked import route_of, understand
from serve.bodies import read_body
from serve.forwarding import Forwarding
from serve.gate import parse
from serve.ledger import Ledger
from serve.metrics import Metrics
from serve.replies import Exchange, Receive, Scope
from serve.snapshot import Watcher
from serve.starting import Starting

_LISTEN_AFTER_S = 0.1  # most answers begin sooner; nobody has to be told within less that a client has gone


class Relay:
    """Sends requests to engines and upstreams. One for each gateway; `open` and `close` with its process."""

    def __init__(
        self, settings: Settings, database: Database, watcher: Watcher, metrics: Metrics, ledger: Ledger
    ) -> None:
        self._watcher = watcher
        self._ledger = ledger
        self._limit = int(settings.max_body_mib * 2**20)
        self._starting = Starting(settings, database, watcher, metrics)
        self._forwarding = Forwarding(settings, metrics)

    async def open(self) -> None:
        """Makes the connection pools."""
        self._forwarding.open()

    async def close(self) -> None:
        """Closes the pools."""
        await self._forwarding.close()

    async def answer(self, scope: Scope, receive: Receive, exchange: Exchange, key: KeyInfo | None) -> None:
        """Answers one request. Whom it was for and what it used stand in `exchange`, however it ends.

        Raises:
            ParleyError: before the answer has begun; after that the error is in the stream.
            CancelledError: the client has gone.
        """
        body = await read_body(scope, receive, self._limit)
        content = parse(body)
        route = route_of(content, self._watcher.current)
        access.may_use(key, content["model"], route)
        exchange.model = route.spec.id
        asked = understand(scope["path"], content, route)
        exchange.stream = asked.stream
        self._ledger.admit(exchange, route, len(body), asked.most_tokens, asked.answers)
        listener = _Listener(receive, exchange)
        try:
            if asked.route.address is None:
                asked = await self._starting.runnable(asked)
            await self._forwarding.forward(asked, exchange)
        finally:
            listener.stop()


class _Listener:
    """Cancels the task that it was made in when the client goes.

    uvicorn says nothing to a writer whose reader has gone, so somebody has to listen, once an answer takes time.
    """

    __slots__ = ("_exchange", "_later", "_listening", "_receive", "_work")

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        work = asyncio.current_task()
        assert work is not None
        self._receive, self._exchange, self._work = receive, exchange, work
        self._listening: asyncio.Future[object] | None = None
        self._later = asyncio.get_running_loop().call_later(_LISTEN_AFTER_S, self._listen)

    def stop(self) -> None:
        """The answer is over, or nobody wants it any more."""
        self._later.cancel()
        if self._listening is not None:
            self._listening.remove_done_callback(self._left)
            self._listening.cancel()

    def _listen(self) -> None:
        self._listening = asyncio.ensure_future(self._receive())
        self._listening.add_done_callback(self._left)

    def _left(self, _: object) -> None:
        if not self._exchange.finished:
            self._exchange.gone = True
            self._work.cancel()
