"""The gateway's door: the sockets that its clients come to. The parent opens it, so that it outlives a gateway.

While one gateway has died and the next is not there yet, clients wait in the kernel's queue instead of being refused.
It knows no HTTP but one answer, for those who would wait too long.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from models.errors import Unavailable
from serve.transport import responses

_QUEUE = 4096
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Door:
    """Listening sockets, one for each address of the host. Made by `open_door`."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets

    @property
    def files(self) -> tuple[int, ...]:
        """The sockets' numbers, for the process that answers."""
        return tuple(one.fileno() for one in self._sockets)

    def turn_away(self) -> None:
        """Answers everybody who waits with a 503, without having read what they want."""
        gone = Unavailable("The gateway is not there. Try again in a moment.", retry_after=5)
        for one in self._sockets:
            with suppress(OSError):
                while True:
                    client, _ = one.accept()
                    with client, suppress(OSError):
                        client.sendall(responses.raw_error(gone))
                        client.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """From now on clients are refused, once the process that answers has closed its own."""
        for one in self._sockets:
            one.close()


def open_door(host: str, port: int) -> Door:
    """Listens on every address that `host` has, as a server that is given the name would.

    Raises:
        Unavailable: on none of them, or not on one that is this machine's.
    """
    opened: list[socket.socket] = []
    absent: OSError | None = None
    try:
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, proto, _, address in dict.fromkeys(places):
            try:
                opened.append(_listening(socket.socket(family, kind, proto), address))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error
        if not opened:
            raise absent or OSError(errno.EADDRNOTAVAIL, "no address")
    except OSError as error:
        for one in opened:
            one.close()
        raise Unavailable(f"The gateway cannot listen on {host}:{port}: {error.strerror}.") from error
    return Door(opened)


def _listening(one: socket.socket, address: Any) -> socket.socket:
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(_QUEUE)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one


def door_of(files: Sequence[int]) -> list[socket.socket]:
    """The sockets that were handed down to this process."""
    return [socket.socket(fileno=number) for number in files]
