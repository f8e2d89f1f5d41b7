"""One request on its way to a model and back: the steps in their order, and the end of it when the client goes.

Each step is a file: serve/transport/bodies.py reads, serve/gateway/gate.py parses, serve/gateway/asked.py understands,
serve/accounting/ledger.py admits, serve/gateway/sending.py finds a place and a server that answers,
serve/gateway/forwarding.py brings the answer back.
"""

from models.database import Database
from models.keys import KeyInfo
from models.settings import Settings
from serve.accounting.ledger import Ledger
from serve.accounting.metrics import Metrics
from serve.gateway import access
from serve.gateway.asked import route_of, understand
from serve.gateway.gate import parse
from serve.gateway.listening import Listening
from serve.gateway.sending import Sending
from serve.gateway.snapshot import Watcher
from serve.gateway.starting import Starting
from serve.transport.bodies import Bodies
from serve.transport.replies import Exchange, Receive, Scope


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
            access.may_use(key, content["model"], route)
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
