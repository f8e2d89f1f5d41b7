"""A proxy between gateways and PostgreSQL that is slow, or drops everything, as a broken network does."""

import asyncio
import threading
from contextlib import suppress
from typing import Literal, Self

Network = Literal["up", "slow", "partitioned"]
_DELAY_S = 0.3
_CHUNK_BYTES = 65_536


class DatabaseProxy:
    """Listens on a port of loopback inside the `with` block, and forwards to the server's Unix socket.

    While partitioned it forwards nothing and keeps connections open; what was sent meanwhile arrives afterwards, as
    TCP's retransmissions do.
    """

    def __init__(self, server_socket: str) -> None:
        self.port = 0
        self._network: Network = "up"
        self._server_socket = server_socket
        self._loop = asyncio.new_event_loop()
        self._connected = asyncio.Event()
        self._connected.set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def set_network(self, network: Network) -> None:
        """Sets what happens to data from now on."""
        self._network = network
        change = self._connected.clear if network == "partitioned" else self._connected.set
        self._loop.call_soon_threadsafe(change)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._pass_network()
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._server_socket)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._forward(reader, server_writer), self._forward(server_reader, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._pass_network()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _pass_network(self) -> None:
        if self._network == "slow":
            await asyncio.sleep(_DELAY_S)
        await self._connected.wait()
