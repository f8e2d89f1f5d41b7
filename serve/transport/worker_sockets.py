"""Unix sockets on which the gateway processes of one port answer their parent and each other.

A question is one byte. `PING` shows that a process's event loop works; what another one means is the process's own.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PING = b"p"
_MAX_BYTES = 2**26


def worker_folder(home: Path, port: int) -> Path:
    """The folder of the sockets and figures of a port's processes. Hosts may share the home."""
    return home / "gateways" / f"{socket.gethostname()}-{port}"


def worker_socket(folder: Path, number: int) -> Path:
    """The socket of one process."""
    return folder / f"{number}.sock"


def clear_worker_folder(folder: Path) -> None:
    """Empties the folder before the first process starts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


async def serve_questions(path: Path, answer: Callable[[bytes], bytes]) -> asyncio.Server:
    """Answers questions on a socket until the server is closed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(answer(await reader.read(1)))
            await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(handle, sock=_listen(path))


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)  # of a process that was killed
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short_path(path) as address:
        listener.bind(address)
    return listener


async def ask(path: Path, question: bytes, timeout_s: float) -> bytes:
    """The answer of the process at a socket.

    Raises:
        OSError: it does not run. TimeoutError: it does not answer in time.
    """
    with _short_path(path) as address:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(address, limit=_MAX_BYTES)
            try:
                writer.write(question)
                return await reader.read(-1)
            finally:
                writer.close()


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """The same path in fewer bytes: the path of a Unix socket may have 107."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
