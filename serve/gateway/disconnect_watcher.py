"""Detects clients that disconnect while their response is being generated, and cancels the work.

ASGI does not tell a writer that its reader has left, so something has to wait on `receive`. Most requests finish before
that pays off: one task looks at all of them a few times a second and waits only on those that take longer.
"""

import asyncio

from serve.gateway.exchange import Exchange
from serve.transport.asgi import Receive

_INTERVAL_S = 0.2


class DisconnectWatcher:
    """One per gateway; `open` and `close` run with the event loop."""

    def __init__(self) -> None:
        self._new: list[DisconnectListener] = []
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts watching."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Stops watching."""
        if self._task is not None:
            self._task.cancel()

    def listener(self, receive: Receive, exchange: Exchange) -> "DisconnectListener":
        """A listener that cancels the current task when the client disconnects, until `stop` is called."""
        listener = DisconnectListener(receive, exchange)
        self._new.append(listener)
        return listener

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            new, self._new = self._new, []
            for listener in new:
                if not listener.stopped:
                    listener.start()


class DisconnectListener:
    """Waits for the disconnect of one request's client."""

    __slots__ = ("_exchange", "_receive", "_receiving", "_task", "stopped")

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        self._receive, self._exchange = receive, exchange
        self._task = asyncio.current_task()
        self._receiving: asyncio.Future[object] | None = None
        self.stopped = False

    def start(self) -> None:
        """Starts waiting."""
        self._receiving = asyncio.ensure_future(self._receive())
        self._receiving.add_done_callback(self._on_disconnect)

    def stop(self) -> None:
        """Stops waiting: the response is complete or abandoned."""
        self.stopped = True
        self._task = None
        if self._receiving is not None:
            self._receiving.remove_done_callback(self._on_disconnect)
            self._receiving.cancel()

    def _on_disconnect(self, _: object) -> None:
        if self._task is not None and not self._exchange.finished:
            self._exchange.client_gone = True
            self._task.cancel()
