"""uvicorn's server, as the gateway runs it: it looks after its connections, and says that it is told to end."""

import asyncio
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn

from serve.transport.http_protocol import Front


class Server(uvicorn.Server):
    """Looks at all connections once a second: a timer for each would cost more. For a config with `http=Front`."""

    def __init__(self, config: uvicorn.Config, stops: Callable[[], None]) -> None:
        """`stops` is called once it is told to end."""
        super().__init__(config)
        self._stops = stops

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self._stops()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast(Front, connection).sweep(now)
        return await super().on_tick(counter)
