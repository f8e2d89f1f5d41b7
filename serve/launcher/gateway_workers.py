"""The gateway's processes: one, or `gateway_workers` of them on one port.

With several, each has its own listening sockets, over which the kernel spreads the connections (SO_REUSEPORT). The
parent holds the sockets: what connects to a process that was killed waits for the one that takes its place.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from models.settings.environment import child_environment
from models.settings.settings import Settings
from serve.launcher import preflight
from serve.launcher.services import UNIX_PROBE, Service, Services
from serve.processes import guardian
from serve.processes.children import kill_strays, own_command
from serve.transport.listen_sockets import ListenSockets, open_listen_sockets
from serve.transport.worker_sockets import clear_worker_folder, worker_folder, worker_socket

# A gateway that crashed restarts sooner. After this time waiting clients get a 503.
_DOWN_S = 10.0
# Beyond the grace of running responses, for the gateway to write its accounting.
_ACCOUNTING_S = 2.0
_LOOK_S = 0.2
_log = logging.getLogger("parley.gateway")


def open_gateway_sockets(settings: Settings) -> list[ListenSockets]:
    """The listening sockets of each gateway process. Raises Unavailable."""
    workers = settings.gateway_workers
    return [open_listen_sockets(settings.host, settings.port, shared=workers > 1) for _ in range(workers)]


def gateway_services(
    settings: Settings, sockets: Sequence[ListenSockets], environment: Mapping[str, str]
) -> list[Service]:
    """The gateway's processes, one for each of the sockets."""
    folder = worker_folder(settings.home, settings.port)
    if len(sockets) > 1:
        clear_worker_folder(folder)
    services = []
    for number, opened in enumerate(sockets, 1):
        arguments = ["gateway", "--door", ",".join(map(str, opened.descriptors))]
        probe = f"{settings.gateway_url.removesuffix('/v1')}/health"
        if len(sockets) > 1:
            arguments += ["--worker", str(number)]
            probe = f"{UNIX_PROBE}{worker_socket(folder, number)}"
        command = own_command(
            "gateway" if number == 1 else f"gateway-{number}",
            *arguments,
            environment=environment,
            grace_s=settings.stop_grace_s + _ACCOUNTING_S,
            inherited_files=opened.descriptors,
        )
        services.append(Service(command, probe))
    return services


class AbsentGateways:
    """Answers the clients of a gateway process that is down for long."""

    def __init__(self, services: Sequence[Service], sockets: Sequence[ListenSockets]) -> None:
        self._gateways = list(zip(services, sockets, strict=False))
        self._answered_at = [time.monotonic()] * len(self._gateways)

    def refuse_waiting(self) -> None:
        """Call it regularly."""
        for number, (service, sockets) in enumerate(self._gateways):
            if service.ready:
                self._answered_at[number] = time.monotonic()
            elif time.monotonic() - self._answered_at[number] > _DOWN_S:
                sockets.refuse_waiting()


def run_gateways(settings: Settings) -> None:
    """Runs `gateway_workers` processes until SIGTERM or Ctrl-C, without engines, page and worker.

    Raises:
        ParleyError: the port is not free, or a process never became ready.
    """
    preflight.check_port(settings.host, settings.port, "the gateway", "PARLEY_PORT")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    guardian.become_subreaper()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    sockets = open_gateway_sockets(settings)
    services = Services(gateway_services(settings, sockets, child_environment(settings)), settings.logs_dir, _log.info)
    absent = AbsentGateways(services.all, sockets)
    watching = asyncio.create_task(services.run())
    try:
        while not stopping.is_set() and not watching.done():
            absent.refuse_waiting()
            kill_strays(services.guardians)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), _LOOK_S)
    finally:
        for opened in sockets:
            opened.close()
        watching.cancel()
        (outcome,) = await asyncio.gather(watching, return_exceptions=True)
        await asyncio.to_thread(services.stop)
        kill_strays(())
    if isinstance(outcome, Exception):
        raise outcome
