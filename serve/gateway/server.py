"""The gateway's uvicorn server: process limits, garbage collection, connection timeouts, and running until a signal."""

import asyncio
import gc
import math
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from models.database import Database
from models.settings.settings import Settings
from serve.gateway.app import Gateway, create_app
from serve.transport.http_protocol import HTTPProtocol
from serve.transport.listen_sockets import inherited_sockets

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_GC_THRESHOLDS = (50_000, 20, 50)  # requests leave hardly any reference cycles behind
_MAX_FILES = 65_536  # a stream needs two
_RESERVED_FILES = 128  # logs, the database, the event loop


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


def run(
    settings: Settings,
    database: Database,
    mounts: "Sequence[BaseRoute]" = (),
    sockets: Sequence[int] = (),
    worker: int = 1,
) -> None:
    """Serves until SIGTERM or Ctrl-C; running responses get `stop_grace_s` to finish.

    Args:
        sockets: file descriptors of inherited listening sockets; without any, the server opens its own.
        worker: this process's number among the `gateway_workers` of its port.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    server = make_server(create_app(worker_settings(settings), database, mounts, worker), settings)
    # Everything loaded so far is permanent: scanning it in full collections cost a fifth of a request's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    server.run(sockets=inherited_sockets(sockets) or None)


def worker_settings(settings: Settings) -> Settings:
    """The settings of one of `gateway_workers` processes: each has a part of what may run and wait in all of them."""
    workers = settings.gateway_workers
    if workers == 1:
        return settings
    return settings.model_copy(
        update={
            "running_per_model": math.ceil(settings.running_per_model / workers),
            "queue_size": math.ceil(settings.queue_size / workers),
            "max_bodies_mib": max(settings.max_bodies_mib / workers, settings.max_body_mib),
        }
    )


def tls_options(certificate: Path | None, key: Path | None) -> dict[str, Any]:
    """uvicorn's options for HTTPS; none without a certificate."""
    if certificate is None or key is None:
        return {}
    return {"ssl_certfile": str(certificate.expanduser()), "ssl_keyfile": str(key.expanduser())}


def max_connections() -> int:
    """How many clients may connect: each may need a second file for its upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((soft - _RESERVED_FILES) // 2, 1)


def make_server(app: Gateway, settings: Settings) -> Server:
    """The gateway's server on the settings' address, not running yet."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=HTTPProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level=settings.log_level,
        limit_concurrency=max_connections(),
        **tls_options(settings.tls_certificate, settings.tls_key),
        timeout_graceful_shutdown=math.ceil(settings.stop_grace_s),
        backlog=4096,
    )
    return Server(config, app.begin_shutdown)
