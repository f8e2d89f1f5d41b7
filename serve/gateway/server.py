"""The gateway's uvicorn server: process limits, garbage collection, and running until a signal."""

import gc
import math
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.database import Database
from models.settings import Settings
from serve.gateway.app import Gateway, create_app
from serve.transport.listen_sockets import inherited_sockets

if TYPE_CHECKING:
    import uvicorn
    from starlette.routing import BaseRoute

_GC_THRESHOLDS = (50_000, 20, 50)  # requests leave hardly any reference cycles behind
_MAX_FILES = 65_536  # a stream needs two
_RESERVED_FILES = 128  # logs, the database, the event loop


def run(
    settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = (), sockets: Sequence[int] = ()
) -> None:
    """Serves until SIGTERM or Ctrl-C; running responses get `stop_grace_s` to finish.

    Args:
        sockets: file descriptors of inherited listening sockets; without any, the server opens its own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    server = make_server(create_app(settings, database, mounts), settings)
    # Everything loaded so far is permanent: scanning it in full collections cost a fifth of a request's time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    server.run(sockets=inherited_sockets(sockets) or None)


def max_connections() -> int:
    """How many clients may connect: each may need a second file for its upstream."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((soft - _RESERVED_FILES) // 2, 1)


def make_server(app: Gateway, settings: Settings) -> "uvicorn.Server":
    """The gateway's server on the settings' address, not running yet."""
    import uvicorn

    from serve.transport.http_protocol import HTTPProtocol
    from serve.transport.server import Server

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
        timeout_graceful_shutdown=math.ceil(settings.stop_grace_s),
        backlog=4096,
    )
    return Server(config, app.begin_shutdown)
