"""Hears when a client goes while its answer is still being made, and then cancels the work.

ASGI tells a writer nothing of a reader who has left, so somebody has to listen. Most answers are over sooner than it
pays to begin: one task looks at all of them a few times a second, and listens for those that take longer.
"""

import asyncio

from serve.transport.responses import Exchange, Receive

_EVERY_S = 0.2


class Listening:
    """One for each gateway; `open` and `close` with the event loop."""

    def __init__(self) -> None:
        self._new: list[Listener] = []
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begins to look."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    def close(self) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()

    def listener(self, receive: Receive, exchange: Exchange) -> "Listener":
        """Someone who cancels the present task when the client goes, until `stop`."""
        listener = Listener(receive, exchange)
        self._new.append(listener)
        return listener

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            new, self._new = self._new, []
            for listener in new:
                if not listener.over:
                    listener.listen()


class Listener:
    """For one request."""

    __slots__ = ("_exchange", "_listening", "_receive", "_work", "over")

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        self._receive, self._exchange = receive, exchange
        self._work = asyncio.current_task()
        self._listening: asyncio.Future[object] | None = None
        self.over = False

    def listen(self) -> None:
        """From now on."""
        self._listening = asyncio.ensure_future(self._receive())
        self._listening.add_done_callback(self._left)

    def stop(self) -> None:
        """The answer is over, or nobody wants it any more."""
        self.over = True
        self._work = None
        if self._listening is not None:
            self._listening.remove_done_callback(self._left)
            self._listening.cancel()

    def _left(self, _: object) -> None:
        if self._work is not None and not self._exchange.finished:
            self._exchange.gone = True
            self._work.cancel()
