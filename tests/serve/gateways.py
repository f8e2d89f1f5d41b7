"""A gateway on a real socket in this process, over a database that a test fills."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec, Upstream
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineState, EngineStatus
from serve.gateway.app import Gateway, create_app
from serve.gateway.server import make_server


class Serving:
    """A running gateway and the handles that a test needs."""

    def __init__(self, app: Gateway, server: uvicorn.Server, port: int, settings: Settings, database: Database) -> None:
        self.app = app
        self.server = server
        self.settings = settings
        self.database = database
        self.registry = Registry(database)
        self.port = port
        self.root = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.root}/v1"

    def seen(self, condition: Callable[[Any], bool], timeout_s: float = 5.0) -> None:
        """Waits until the gateway's snapshot meets a condition."""
        deadline = time.monotonic() + timeout_s
        while not condition(self.app.watcher.current):
            assert time.monotonic() < deadline, "the gateway did not see it"
            time.sleep(0.005)

    def hosted(self, *names: str, base_url: str, model: str | None = None, credential: str | None = None) -> None:
        """Registers hosted models, and waits until the gateway knows them."""
        for name in names:
            upstream = Upstream(base_url=base_url, model=model or name, credential=credential)
            self.registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream))
        self.seen(lambda snapshot: set(names) <= set(snapshot.routes))

    def engine(self, name: str, folder: Path, address: str | None, fallbacks: tuple[str, ...] = ()) -> None:
        """Registers a base whose engine is at `address` (None: it is starting)."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").touch()
        spec = ModelSpec(id=name, kind="base", path=str(folder), engine=EngineOptions(), fallbacks=fallbacks)
        self.registry.register(spec)
        self.publish(name, address)

    def publish(self, name: str, address: str | None, state: EngineState = "starting") -> None:
        """Sets the address of a base's engine, or its state if it has none."""
        row = EngineStatus(name, "ready" if address else state, address, None)
        engine_states.write_statuses(self.database, [row])
        wanted = f"{address}/v1" if address else None, row.state

        def known(snapshot: Any) -> bool:
            route = snapshot.routes.get(name)
            return route is not None and (route.address, route.state.state) == wanted

        self.seen(known)


@contextmanager
def serving(settings: Settings, database: Database, mounts: Sequence[Any] = ()) -> Iterator[Serving]:
    """The gateway as `parley gateway` runs it, in a thread."""
    app = create_app(settings, database, mounts)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = make_server(app, settings.model_copy(update={"log_level": "warning"}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the gateway did not start"
        time.sleep(0.003)
    try:
        yield Serving(app, server, listener.getsockname()[1], settings, database)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
