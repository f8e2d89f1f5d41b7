"""One request on its way to a model and back: the steps in their order, and the end of it when the client goes.

Each step is a file: serve/transport/request_bodies.py reads, serve/validation/request_checks.py parses, serve/gateway/model_request.py understands,
serve/accounting/request_accounting.py admits, serve/gateway/dispatcher.py finds a place and a server that answers,
serve/gateway/response_forwarder.py brings the answer back.
"""

from models.database import Database
from models.keys import KeyInfo
from models.settings import Settings
from serve.accounting.metrics import Metrics
from serve.accounting.request_accounting import Ledger
from serve.gateway import authorization
from serve.gateway.disconnect_watcher import Listening
from serve.gateway.dispatcher import Sending
from serve.gateway.model_request import route_of, understand
from serve.gateway.snapshot import Watcher
from serve.gateway.startup_queue import Starting
from serve.transport.request_bodies import Bodies
from serve.transport.responses import Exchange, Receive, Scope
from serve.validation.request_checks import parse


class Relay:
    """Sends requests to engines and upstreams. One for each gateway; `open` and `close` with its process."""

    def __init__(
        self, settings: Settings, database: Database, watcher: Watcher, metrics: Metrics, ledger: Ledger
    ) -> None:
        self._watcher = watcher
        self._ledger = ledger
        self._bodies = Bodies(settings)
        self._listening = Listening()
        starting = Starting(settings, database, watcher, metrics)
        self._sending = Sending(settings, watcher, metrics, starting)

    async def open(self) -> None:
        """Makes the connection pools."""
        self._sending.open()
        self._listening.open()

    async def close(self) -> None:
        """Closes the pools."""
        self._listening.close()
        await self._sending.close()

    async def answer(self, scope: Scope, receive: Receive, exchange: Exchange, key: KeyInfo | None) -> None:
        """Answers one request. Whom it was for and what it used stand in `exchange`, however it ends.

        Raises:
            ParleyError: before the answer has begun; after that the error is in the stream.
            CancelledError: the client has gone.
        """
        body = exchange.body_here()
        if body is None:
            body = await self._bodies.read(scope, receive)
        else:
            self._bodies.hold(body)
        size = len(body)
        try:
            content = parse(body)
            route = route_of(content, self._watcher.current)
            authorization.may_use(key, content["model"], route)
            exchange.model = route.spec.id
            asked = understand(scope["path"], content, route)
            exchange.stream = asked.stream
            del body, content  # what goes on is in `asked`
            self._ledger.admit(exchange, route, size, asked.most_tokens, asked.answers)
            listener = self._listening.listener(receive, exchange)
            try:
                await self._sending.send(asked, exchange, key)
            finally:
                listener.stop()
        finally:
            self._bodies.let_go(size)
