"""The parent process, `parley up`: it starts and watches all other processes and stops them when it ends.

It runs the `services` (gateway, page, worker) and the `supervisor` (engines). It serves nothing itself.
"""

import asyncio
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from models.database import Database, open_database, upgrade
from models.files.atomic import ABANDONED_S, atomic_write, sweep
from models.home.instance import STATE_FILE
from models.home.new_home import removed_if_unused
from models.keys import create_key, keys_configured
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.page_settings import page_environment
from models.settings.settings import Settings
from serve.fleet import machine
from serve.fleet.supervisor import Supervisor
from serve.launcher import preflight
from serve.launcher.gateway_workers import AbsentGateways, gateway_services, open_gateway_sockets
from serve.launcher.services import Service, Services
from serve.launcher.startup_output import StartupOutput
from serve.processes import guardian
from serve.processes.children import kill_strays, own_command
from serve.processes.logs import rotate
from serve.transport.listen_sockets import ListenSockets

if TYPE_CHECKING:
    from serve.cluster.ray_host import RayHost

Prepare = Callable[[Settings, Callable[[str], None]], None]
_STRAYS_INTERVAL_S = 1.0
_GATEWAY_NOTICES_S = 0.4


def up(
    settings: Settings,
    *,
    prepare: Prepare | None = None,
    page: bool = True,
    worker: bool = True,
    make_owner_key: bool = False,
) -> None:
    """Runs Parley until Ctrl-C or SIGTERM, then stops everything and returns.

    Args:
        prepare: called as `prepare(settings, report)` before anything starts, to register models; `report` prints a
            line of progress. What it imports stays in memory: heavy work belongs in its own process.
        page, worker: whether to start those.
        make_owner_key: create an owner's key and print it if there is no key yet.

    Raises:
        ParleyError: a check before the start failed.
    """
    with removed_if_unused(settings):
        _up(settings, prepare, page=page, worker=worker, make_owner_key=make_owner_key)


def _up(settings: Settings, prepare: Prepare | None, *, page: bool, worker: bool, make_owner_key: bool) -> None:
    console = StartupOutput()
    preflight.check_home(settings.home)
    with preflight.lock_home(settings.home) as _lock, ExitStack() as stack:
        if left := guardian.kill_marked(str(settings.home)):
            console.line(f"ended {len(left)} processes that an earlier run of this home left behind")
        preflight.check(settings, page=page)
        sweep(settings.models_dir, older_than_s=ABANDONED_S)
        # With a cluster, this machine needs no GPU.
        here = settings if settings.ray_address is None else settings.model_copy(update={"device": "cpu"})
        machine_info = machine.detect_machine(here)
        cluster = stack.enter_context(_connect(settings, console.line))
        upgrade(settings)
        database = open_database(settings)
        try:
            Registry(database).sweep_unclaimed(settings.models_dir)
            owner_key = _check_keys(settings, database, page=page, make_owner_key=make_owner_key)
            if owner_key:
                # At once: if a later step fails, the next start does not create another key.
                console.key(owner_key)
            elif not keys_configured(database):
                console.line(preflight.no_key_note(settings))
            if prepare is not None:
                prepare(settings, console.line)
            where = _describe(machine_info) if cluster is None else cluster.describe()
            console.line(f"starting on {where}; everything is kept in {settings.home}")
            supervisor = Supervisor(settings, database, machine_info, console.line, host=cluster)
            asyncio.run(_run(settings, database, supervisor, console, page=page, worker=worker))
        except KeyboardInterrupt:
            console.line("stopped")
        finally:
            database.dispose()


@contextmanager
def _connect(settings: Settings, report: Callable[[str], None]) -> "Iterator[RayHost | None]":
    """The Ray cluster that the settings name, while the block runs; None if engines run on this machine."""
    if settings.ray_address is None:
        yield None
        return
    from serve.cluster.ray_host import connect

    cluster = connect(settings.ray_address, settings, report)
    try:
        yield cluster
    finally:
        cluster.close()


def _check_keys(settings: Settings, database: Database, *, page: bool, make_owner_key: bool) -> str | None:
    configured = keys_configured(database)
    preflight.check_keys(settings, page=page, keys=configured or make_owner_key)
    if make_owner_key and not configured:
        return create_key(database, name="owner", role="owner")
    return None


async def _run(
    settings: Settings,
    database: Database,
    supervisor: Supervisor,
    console: StartupOutput,
    *,
    page: bool,
    worker: bool,
) -> None:
    guardian.become_subreaper()
    stopping, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_stop_signal() -> None:
        (hurry if stopping.is_set() else stopping).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_stop_signal)
    sockets = open_gateway_sockets(settings)
    services = Services(_services(settings, sockets, page=page, worker=worker), settings.logs_dir, console.line)
    absent = AbsentGateways(services.all, sockets)
    tasks = [asyncio.create_task(services.run()), asyncio.create_task(supervisor.run())]
    announced, ready_since = False, None
    strays_at = time.monotonic()
    try:
        while not stopping.is_set() and not any(task.done() for task in tasks):
            if not (services.ready() and supervisor.settled()):
                ready_since = None
            elif ready_since is None:
                ready_since = time.monotonic()
            # A moment later, so that the gateway has polled the states too.
            if not announced and ready_since is not None and time.monotonic() - ready_since > _GATEWAY_NOTICES_S:
                console.ready(settings, page=page, models=supervisor.overview())
                announced = True
            absent.refuse_waiting()
            _write_state(settings, services, ready=announced, page=page)
            if time.monotonic() - strays_at > _STRAYS_INTERVAL_S:
                strays_at = time.monotonic()
                await asyncio.to_thread(_rotate_logs, settings.logs_dir)
                kill_strays(services.guardians | supervisor.guardians)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.2)
    finally:
        began = time.monotonic()
        for opened in sockets:
            opened.close()
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await _stop(services, supervisor, hurry)
        kill_strays(())
        (settings.home / STATE_FILE).unlink(missing_ok=True)
        console.line(f"stopped, after {time.monotonic() - began:.1f} s")
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _stop(services: Services, supervisor: Supervisor, hurry: asyncio.Event) -> None:
    """Stops the gateway first, so that running responses can finish while the engines still run; then the engines.

    A second signal stops everything at once.
    """
    graceful = asyncio.create_task(asyncio.to_thread(services.stop))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({graceful, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if hurry.is_set():
        await asyncio.to_thread(services.kill)
    await graceful
    hurried.cancel()
    await supervisor.stop()


def _rotate_logs(logs: Path) -> None:
    """Rotates the logs of child processes; gateways rotate their access logs themselves."""
    for log in logs.glob("*.log"):
        if log.stem.partition("-")[0] != "access":
            rotate(log)


def _services(settings: Settings, sockets: Sequence[ListenSockets], *, page: bool, worker: bool) -> list[Service]:
    """The services to start, the gateway's processes first."""
    # A key for our own page and worker, new at every start. The gateway knows it without a database row.
    key = settings.page_key.get_secret_value() if settings.page_key else f"pk-{secrets.token_urlsafe(32)}"
    gateway = settings.gateway_url.removesuffix("/v1")
    # Not another gateway, which the setting `gateway_address` may name: it does not know this key.
    own = {"PARLEY_GATEWAY_ADDRESS": gateway} if settings.gateway_address else {}
    environment = child_environment(settings, PARLEY_PAGE_KEY=key, PARLEY_PORT=str(settings.port), **own)
    services = gateway_services(settings, sockets, environment)
    if page:
        page_command = own_command("page", "page", environment=page_environment(environment))
        services.append(Service(page_command, settings.page_url))
    if worker:
        services.append(Service(own_command("worker", "worker", environment=environment), None))
    return services


def _describe(machine_info: machine.Machine) -> str:
    if machine_info.gpus:
        return ", ".join(f"{gpu.name} ({gpu.memory_mib // 1024} GiB)" for gpu in machine_info.gpus)
    cores = len(machine_info.cores)
    return f"{cores} CPU core{'s' * (cores != 1)} and {machine_info.memory_bytes / 2**30:.0f} GiB, no GPU"


def _write_state(settings: Settings, services: Services, *, ready: bool, page: bool) -> None:
    """Writes up.json for other processes on this machine, which read it with `models.home.instance`."""
    state = {
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "ready": ready,
        "gateway": settings.gateway_url,
        "certificate": str(settings.tls_certificate.expanduser().absolute()) if settings.tls_certificate else None,
        "page": settings.page_url if page else None,
        "processes": {
            service.name: {"pid": service.process.pid if service.process else None, "ready": service.ready}
            for service in services.all
        },
    }
    path = settings.home / STATE_FILE
    data = json.dumps(state).encode()
    with suppress(OSError):
        if not path.exists() or path.read_bytes() != data:
            atomic_write(path, data)
