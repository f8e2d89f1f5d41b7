"""The worker: one process that runs jobs in lanes, in each one after another. It knows leases, no kind of work.

A lane is a set of kinds: what takes hours gets one of its own, so that nothing short waits behind it.

A handler is a function `(job, context) -> result`, named as `module:function` and imported when its first job
comes, so that an idle worker loads nothing heavy.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

from models import jobs
from models.database import Database
from models.errors import NoSpace, ParleyError, Unavailable
from models.jobs import Job
from models.settings import Settings

_LEASE_S = 30.0
_BEAT_S = 3.0
_IDLE_S = 0.5
_log = logging.getLogger("parley.worker")


class JobCancelled(Exception):
    """The job was cancelled, its lease was lost, or the worker stops: the handler lets this pass, and cleans up."""


class JobContext:
    """What a handler works with: settings, database, and the way to tell how far it is."""

    def __init__(
        self, settings: Settings, database: Database, job: Job, worker: str, stop: threading.Event | None = None
    ) -> None:
        self.settings = settings
        self.database = database
        self._job = job
        self._worker = worker
        self._lost = threading.Event()
        self._stop = stop or threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether to stop. The heartbeat sets it within a few seconds of the cancelling."""
        return self._lost.is_set() or self._stop.is_set()

    @property
    def interrupted(self) -> bool:
        """Whether to stop only because the worker does: the job is still this worker's, and goes on later."""
        return self._stop.is_set() and not self._lost.is_set()

    def report(self, progress: float | None = None, message: str | None = None) -> None:
        """Tells how far the job is (0 to 1) and what it does now.

        Raises:
            JobCancelled: it is to stop.
        """
        if not self.beat(progress, message):
            raise JobCancelled(self._job.id)

    def beat(self, progress: float | None = None, message: str | None = None) -> bool:
        """Renews the lease; False, from then on, where the job is to stop. A database that is away stops no job."""
        if not self._lost.is_set():
            try:
                kept = jobs.heartbeat(
                    self.database, self._job.id, self._worker, progress=progress, message=message, lease_s=_LEASE_S
                )
            except (Unavailable, NoSpace) as error:
                # Hours of work are worth more than a word about them: the next one tells as much.
                _log.warning("heartbeat: %s", error)
                return not self.cancelled
            if not kept:
                self._lost.set()
        return not self.cancelled

    def insist(self, store: Callable[[], object]) -> None:
        """Stores how a job ended, again and again while the database is away and the worker is to go on."""
        while True:
            try:
                store()
                return
            except (Unavailable, NoSpace) as error:
                _log.warning("what became of job %s cannot be stored yet: %s", self._job.id, error)
                if self._stop.wait(_BEAT_S):
                    raise


Handler = Callable[[Job, JobContext], dict[str, Any] | None]


def run_worker(
    settings: Settings,
    database: Database,
    handlers: Mapping[str, str],
    *,
    stop: threading.Event,
    lanes: Sequence[Collection[str]] = (),
) -> None:
    """Runs jobs until `stop` is set. A failed job is a row with its error; the worker goes on.

    What runs when `stop` is set goes back to the queue, for the next worker.

    Args:
        lanes: kinds of jobs that are run one after another, beside all other lanes. Every kind that is in none of
            them shares one more.
    """
    named = [kind for lane in lanes for kind in lane]
    work: list[dict[str, Collection[str]]] = [{"kinds": lane} for lane in lanes]
    work.append({"other_than": named})
    with ThreadPoolExecutor(len(work), thread_name_prefix="lane") as pool:
        running = [pool.submit(_run_lane, settings, database, handlers, stop, taken) for taken in work]
        for lane in running:
            lane.result()


def _run_lane(
    settings: Settings,
    database: Database,
    handlers: Mapping[str, str],
    stop: threading.Event,
    taken: Mapping[str, Collection[str]],
) -> None:
    worker = f"{socket.gethostname()}:{os.getpid()}"[:64]
    try:
        while not stop.is_set():
            try:
                job = jobs.claim(database, worker, _LEASE_S, **taken)
            except ParleyError as error:
                _log.warning("%s", error)
                stop.wait(_BEAT_S)
                continue
            if job is None:
                stop.wait(_IDLE_S)
                continue
            run_job(settings, database, handlers, job, worker, stop)
    finally:
        # A lane that broke takes the others along: whoever started the worker starts it again, whole.
        stop.set()


def run_job(
    settings: Settings,
    database: Database,
    handlers: Mapping[str, str],
    job: Job,
    worker: str,
    stop: threading.Event | None = None,
) -> None:
    """Runs one claimed job to its end, with a heartbeat beside it; `stop` interrupts it."""
    _log.info("job %s (%s) starts", job.id, job.kind)
    began = time.monotonic()
    context = JobContext(settings, database, job, worker, stop)
    over = threading.Event()
    pulse = threading.Thread(target=_keep_alive, args=(context, over), name="heartbeat", daemon=True)
    pulse.start()
    try:
        result = _handler(handlers, job)(job, context)
        # In here, because a result that cannot be stored fails its job: it must not end the worker, which would
        # meet the same job again after every start.
        context.insist(lambda: jobs.finish(database, job.id, worker, result=result or {}))
        _log.info("job %s done in %.1f s", job.id, time.monotonic() - began)
    except JobCancelled:
        if context.interrupted:
            jobs.release(database, job.id, worker)
        _log.info("job %s %s", job.id, "waits for the next worker" if context.interrupted else "cancelled")
    except ParleyError as error:
        told = str(error)
        context.insist(lambda: jobs.finish(database, job.id, worker, error=told))
        _log.warning("job %s failed: %s", job.id, error)
    except Exception as error:
        # A fault of ours: the log keeps the traceback, the row says what a user can be told.
        _log.exception("job %s broke", job.id)
        told = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        context.insist(lambda: jobs.finish(database, job.id, worker, error=f"{told} (the worker's log has more)"))
    finally:
        over.set()
        pulse.join()


def _handler(handlers: Mapping[str, str], job: Job) -> Handler:
    if job.kind not in handlers:
        raise ParleyError(f"No room of this Parley knows jobs of kind {job.kind!r}.")
    module, _, function = handlers[job.kind].partition(":")
    return getattr(import_module(module), function)


def _keep_alive(context: JobContext, over: threading.Event) -> None:
    while not over.wait(_BEAT_S):
        try:
            context.beat()
        except ParleyError as error:
            _log.warning("heartbeat: %s", error)
