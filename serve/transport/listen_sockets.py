"""The gateway's listening sockets. The parent process opens them, so that they outlive a gateway that crashes.

While a gateway restarts, clients wait in the kernel's accept queue instead of being refused.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from models.errors import Unavailable
from serve.transport.error_responses import raw_error

_BACKLOG = 4096
_UNAVAILABLE_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class ListenSockets:
    """Listening sockets, one for each address of the host. Made by `open_listen_sockets`."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The sockets' file descriptors, for the process that serves them."""
        return tuple(listener.fileno() for listener in self._sockets)

    def refuse_waiting(self) -> None:
        """Answers every waiting client with a 503, without reading its request."""
        error = Unavailable("The gateway is not running. Try again in a moment.", retry_after=5)
        for listener in self._sockets:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, suppress(OSError):
                        client.sendall(raw_error(error))
                        client.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the sockets. Clients are refused once the serving process has closed its own copies."""
        for listener in self._sockets:
            listener.close()


def open_listen_sockets(host: str, port: int, *, shared: bool = False) -> ListenSockets:
    """Listens on every address of `host`, as a server does that is given the name.

    `shared`: further sockets can listen on the same port, and the kernel spreads connections over all of them.

    Raises:
        Unavailable: none of the addresses can be used, or one that belongs to this machine cannot.
    """
    opened: list[socket.socket] = []
    unavailable: OSError | None = None
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, proto, _, address in dict.fromkeys(addresses):
            try:
                opened.append(_listen(socket.socket(family, kind, proto), address, shared=shared))
            except OSError as error:
                if error.errno not in _UNAVAILABLE_ADDRESS:
                    raise
                unavailable = error
        if not opened:
            raise unavailable or OSError(errno.EADDRNOTAVAIL, "no address")
    except OSError as error:
        for listener in opened:
            listener.close()
        raise Unavailable(f"The gateway cannot listen on {host}:{port}: {error.strerror}.") from error
    return ListenSockets(opened)


def _listen(listener: socket.socket, address: Any, *, shared: bool) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def inherited_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """The sockets of inherited file descriptors."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
