"""A whole Parley for the tests: started by `serve.start` on free ports over an empty home, stopped at the end."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.database import Database, open_database
from models.settings.settings import Settings, load_settings
from serve import start
from serve.launcher.up_process import Running

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stack:
    """The running processes, and their addresses."""

    running: Running
    settings: Settings
    database: Database

    @property
    def gateway_url(self) -> str:
        return self.settings.gateway_url

    @property
    def page_url(self) -> str:
        return self.settings.page_url


@contextmanager
def stack(
    home: Path, command: str = "up", *, timeout_s: float = 240, flags: Any = (), **settings: Any
) -> Iterator[Stack]:
    """`parley COMMAND` over `home`, ready: its engines, the gateway, the page, the worker."""
    port, page_port = free_ports(2)
    chosen = load_settings(home=home, port=port, page_port=page_port, **settings)
    with start(chosen, command=command, arguments=flags) as running:
        running.wait_ready(timeout_s)
        database = open_database(chosen)
        yield Stack(running, chosen, database)
        database.dispose()


def free_ports(count: int) -> list[int]:
    """Ports on loopback without a listener at the moment.

    They are below the kernel's range for outgoing connections: such a connection could take a port after a stop.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            listener = socket.socket()
            sockets.append(listener)
            try:
                listener.bind(("127.0.0.1", random.randrange(15_000, 32_000)))
            except OSError:
                sockets.pop().close()
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
