"""uvicorn's server with our connection timeouts and a callback at shutdown."""

import asyncio
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn

from serve.transport.http_protocol import HTTPProtocol


class Server(uvicorn.Server):
    """Checks all connections once a second, because a timer per connection costs more. Needs `http=HTTPProtocol`."""

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        """`on_shutdown` is called when the server gets a signal to stop."""
        super().__init__(config)
        self._on_shutdown = on_shutdown

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's signal handler."""
        self._on_shutdown()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's tick, ten times a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(HTTPProtocol, connection).check_timeouts(now)
        return await super().on_tick(counter)
