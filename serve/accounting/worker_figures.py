"""One set of metrics for all gateway processes of a port, whichever process is asked.

Each process answers the others on a Unix socket, and stores what it reported last in a file beside it: if it is killed,
its counters go on in the process that takes its place.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import CollectorRegistry

from serve.accounting.metric_sums import Family, add_families, lasting_families, plain_families, to_metrics
from serve.accounting.metrics import Metrics
from serve.transport.worker_sockets import PING, ask, serve_questions, worker_socket

_FIGURES = b"f"
_TIMEOUT_S = 2.0
_STORE_INTERVAL_S = 5.0


class WorkerFigures:
    """The metrics of process `number` of `workers`. `start` and `stop` run with its event loop."""

    def __init__(self, folder: Path, number: int, workers: int, metrics: Metrics) -> None:
        self._folder, self._number, self._metrics = folder, number, metrics
        self._others = [other for other in range(1, workers + 1) if other != number]
        self._before: list[Family] = []
        self._server: asyncio.Server | None = None
        self._storing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answers the parent and the other processes from now on."""
        self._before = lasting_families(self._read(self._number))
        self._server = await serve_questions(worker_socket(self._folder, self._number), self._answer)
        self._storing = asyncio.create_task(self._store_regularly())

    async def stop(self) -> None:
        """Stores the figures and stops answering."""
        if self._storing is not None:
            self._storing.cancel()
        if self._server is not None:
            self._server.close()
            self._store()

    async def text(self) -> bytes:
        """The metrics of all processes in Prometheus's text format."""
        others = await asyncio.gather(*map(self._figures_of, self._others))
        metrics = to_metrics(add_families([self._own(), *others]))
        return generate_latest(cast(CollectorRegistry, _Collected(metrics)))

    def _own(self) -> list[Family]:
        return add_families([plain_families(self._metrics.families()), self._before])

    def _answer(self, question: bytes) -> bytes:
        return b"ok" if question == PING else self._store()

    def _store(self) -> bytes:
        """Stores the figures before anybody sees them: a counter must not fall if this process is killed."""
        data = orjson.dumps(self._own())
        path = self._file(self._number)
        pending = path.with_suffix(".pending")
        with suppress(OSError):
            pending.write_bytes(data)
            os.replace(pending, path)
        return data

    async def _store_regularly(self) -> None:
        while True:
            await asyncio.sleep(_STORE_INTERVAL_S)
            self._store()

    async def _figures_of(self, number: int) -> list[Family]:
        try:
            return orjson.loads(await ask(worker_socket(self._folder, number), _FIGURES, _TIMEOUT_S))
        except (OSError, TimeoutError, ValueError):
            return lasting_families(self._read(number))

    def _read(self, number: int) -> list[Family]:
        try:
            return orjson.loads(self._file(number).read_bytes())
        except (OSError, ValueError):
            return []

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.json"


class _Collected:
    """What `generate_latest` needs of a registry."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Any:
        return self._metrics
