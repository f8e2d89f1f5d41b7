"""What must be true before anything is started, each fault told in one line. It starts nothing."""

import errno
import fcntl
import ipaddress
import os
import shutil
import socket
from pathlib import Path
from typing import IO

from models.errors import Conflict, Invalid, NoSpace, Unavailable
from models.settings import Settings

LEAST_FREE_BYTES = 200 * 1024**2


def check(settings: Settings, *, page: bool) -> None:
    """Home, disk and ports.

    Raises:
        Invalid, NoSpace, Unavailable: what is wrong and what to do about it.
    """
    check_home(settings.home)
    check_port(settings.host, settings.port, "the gateway", "--port")
    if page:
        hosts = {settings.host, settings.page_host}
        everywhere = hosts & {"", "0.0.0.0", "::"}  # noqa: S104 -- compared with, not bound to
        if settings.page_port == settings.port and (everywhere or len(hosts) == 1):
            raise Invalid(f"Gateway and page cannot both have port {settings.port}: choose another with --page-port.")
        check_port(settings.page_host, settings.page_port, "the page", "--page-port")


def check_home(home: Path) -> None:
    """The home can be made and written, and its disk has room."""
    try:
        for folder in (home, home / "logs", home / "models"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = home / f".probe-{os.getpid()}"
        try:
            with probe.open("wb") as stream:
                stream.write(bytes(64 * 1024))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"The disk of {home} is full. Free some space and start again.") from error
        raise Invalid(
            f"The home {home} cannot be written: {error.strerror}. Choose another with --home or PARLEY_HOME.",
            param="home",
        ) from error
    free = shutil.disk_usage(home).free
    if free < LEAST_FREE_BYTES:
        raise NoSpace(f"The disk of {home} has only {free // 2**20} MiB left. Free some space and start again.")


def check_port(host: str, port: int, who: str, flag: str) -> None:
    """Nobody listens on that port, and this machine has that address."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError) as error:
        # The second comes from a name that DNS could not even ask for.
        raise Invalid(f"{host!r} is no address of this machine for {who}.", param="host") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"Port {port} for {who} is taken. Stop what has it, or choose another with {flag}."
            ) from error
        if error.errno == errno.EACCES:
            raise Unavailable(f"Port {port} for {who} needs more rights. Choose one over 1023 with {flag}.") from error
        raise Invalid(f"{who.capitalize()} cannot listen on {host}:{port}: {error.strerror}.", param="host") from error


def check_doors(settings: Settings, *, page: bool, keys: bool) -> None:
    """Whoever listens wider than loopback has a key.

    Raises:
        Invalid: it listens wider and nobody has made a key.
    """
    if keys:
        return
    hosts = [settings.host, *[settings.page_host] * page]
    wide = next((host for host in hosts if not is_loopback(host)), None)
    if wide is not None:
        raise Invalid(
            f"Listening on {wide} needs a key, or anybody could use your models: make one with "
            "`parley keys create NAME --role owner`, or start with --make-owner-key.",
            param="host",
        )


def door_words(settings: Settings) -> str:
    """What whoever starts Parley without any key is told."""
    return (
        f"No key is configured: the gateway listens on {settings.host} only, and asks nobody for one. "
        "`parley keys create NAME --role owner` makes the first."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def lock_home(home: Path) -> IO[str]:
    """Takes the home for this process, until the file is closed or the process ends.

    Raises:
        Conflict: another `parley up` has it.
    """
    stream = (home / "up.lock").open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.seek(0)
        pid = stream.read().strip()
        stream.close()
        who = f" (process {pid})" if pid else ""
        raise Conflict(
            f"Parley already runs from {home}{who}. Stop it first, or give this one another --home and ports."
        ) from error
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream
