"""Checks before a start, each with a one-line error. It starts nothing."""

import errno
import fcntl
import ipaddress
import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import IO

from models.errors import Conflict, Invalid, NoSpace, Unavailable
from models.settings.settings import Settings
from serve.transport.engine_tls import engine_tls

LEAST_FREE_BYTES = 200 * 1024**2


def check(settings: Settings, *, page: bool) -> None:
    """Checks home, disk and ports.

    Raises:
        Invalid, NoSpace, Unavailable: what is wrong and what to do.
    """
    check_home(settings.home)
    check_tls(settings, page=page)
    check_port(settings.host, settings.port, "the gateway", "--port")
    if page:
        hosts = {settings.host, settings.page_host}
        everywhere = hosts & {"", "0.0.0.0", "::"}  # noqa: S104 -- compared with, not bound to
        if settings.page_port == settings.port and (everywhere or len(hosts) == 1):
            raise Invalid(f"Gateway and page cannot both use port {settings.port}: choose another with --page-port.")
        check_port(settings.page_host, settings.page_port, "the page", "--page-port")


def check_home(home: Path) -> None:
    """Checks that the home can be created and written, and that its disk has space."""
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
    """Checks that the port is free and the address belongs to this machine."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError: the name is not a possible DNS name.
        raise Invalid(f"{host!r} is not an address of this machine for {who}.", param="host") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(
                f"Port {port} for {who} is in use. Stop the program that uses it, or choose another port with {flag}."
            ) from error
        if error.errno == errno.EACCES:
            raise Unavailable(
                f"Port {port} for {who} needs more privileges. Choose one over 1023 with {flag}."
            ) from error
        raise Invalid(f"{who.capitalize()} cannot listen on {host}:{port}: {error.strerror}.", param="host") from error


def check_tls(settings: Settings, *, page: bool) -> None:
    """Checks that each certificate and its key can be read and match.

    Raises:
        Invalid: they cannot be read, do not match, or one of them is missing.
    """
    engine_tls(settings)
    pairs = [("tls_certificate", settings.tls_certificate, "tls_key", settings.tls_key)]
    if page:
        pairs.append(("page_tls_certificate", settings.page_tls_certificate, "page_tls_key", settings.page_tls_key))
    for certificate_name, certificate, key_name, key in pairs:
        if certificate is None and key is None:
            continue
        if certificate is None or key is None:
            missing, given = (certificate_name, key_name) if certificate is None else (key_name, certificate_name)
            raise Invalid(f"{given} is set without {missing}: set both for TLS.", param=missing)
        for name, path in ((certificate_name, certificate), (key_name, key)):
            try:
                with path.expanduser().open("rb"):
                    pass
            except OSError as error:
                raise Invalid(f"{name}: {path} cannot be read: {error.strerror}.", param=name) from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                certificate.expanduser(), key.expanduser(), password=_refuse_password
            )
        except ssl.SSLError as error:
            reason = str(error.reason or error).replace("_", " ").lower()
            raise Invalid(
                f"{certificate} and {key} are not a certificate and its key in PEM format: {reason}.",
                param=certificate_name,
            ) from error


def _refuse_password() -> str:
    raise Invalid(
        "The TLS key is encrypted: use a key without a password in a file that only Parley can read.", param="tls_key"
    )


def check_keys(settings: Settings, *, page: bool, keys: bool) -> None:
    """Checks that there is a key if anything listens on more than loopback.

    Raises:
        Invalid: there is no key.
    """
    if keys:
        return
    hosts = [settings.host, *[settings.page_host] * page]
    wide = next((host for host in hosts if not is_loopback(host)), None)
    if wide is not None:
        raise Invalid(
            f"Listening on {wide} needs a key, or anyone could use your models: create one with `parley keys create "
            "NAME --role owner`, or start with --make-owner-key.",
            param="host",
        )


def no_key_note(settings: Settings) -> str:
    """The note for a start without any key."""
    return (
        f"No key is configured: the gateway listens on {settings.host} only and needs no key. `parley keys create NAME "
        "--role owner` creates the first one."
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
    """Locks the home for this process, until the file is closed or the process ends.

    Raises:
        Conflict: another `parley up` holds the lock.
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
