"""The worker: one process that runs jobs in parallel lanes, one job at a time in each.

A lane is a set of job kinds. Long jobs have a lane of their own, so that short ones do not wait for them. A handler is
a function `(job, context) -> result`, named `module:function` and imported for its first job, so that an idle worker
loads nothing heavy.
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

from models.database import Database
from models.errors import NoSpace, ParleyError, Unavailable
from models.jobs import jobs
from models.jobs.jobs import Job
from models.settings.settings import Settings

_LEASE_S = 30.0
_BEAT_S = 3.0
_IDLE_S = 0.5
_log = logging.getLogger("parley.worker")


class JobCancelled(Exception):
    """The job is cancelled, its lease is lost, or the worker stops. Handlers clean up and let this propagate."""


class JobContext:
    """A handler's settings, database and progress reports."""

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
        """Whether to stop. It becomes true within seconds of the cancellation."""
        return self._lost.is_set() or self._stop.is_set()

    @property
    def interrupted(self) -> bool:
        """Whether to stop because the worker stops; the job continues later."""
        return self._stop.is_set() and not self._lost.is_set()

    def report(self, progress: float | None = None, message: str | None = None) -> None:
        """Reports the progress (0 to 1) and the current step.

        Raises:
            JobCancelled: the job must stop.
        """
        if not self.beat(progress, message):
            raise JobCancelled(self._job.id)

    def beat(self, progress: float | None = None, message: str | None = None) -> bool:
        """Renews the lease. False, also later, if the job must stop; an unreachable database does not stop it."""
        if not self._lost.is_set():
            try:
                kept = jobs.heartbeat(
                    self.database, self._job.id, self._worker, progress=progress, message=message, lease_s=_LEASE_S
                )
            except (Unavailable, NoSpace) as error:
                # A missed report must not end hours of work; the next one contains the same information.
                _log.warning("heartbeat: %s", error)
                return not self.cancelled
            if not kept:
                self._lost.set()
        return not self.cancelled

    def store_with_retries(self, store: Callable[[], object]) -> None:
        """Calls `store`, and repeats it while the database is unreachable, until the worker stops."""
        while True:
            try:
                store()
                return
            except (Unavailable, NoSpace) as error:
                _log.warning("the result of job %s cannot be stored yet: %s", self._job.id, error)
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
    """Runs jobs until `stop` is set; running jobs then return to the queue. A failed job does not stop the worker.

    Args:
        handlers: job kind → `module:function`.
        lanes: sets of job kinds. Each set has a lane of its own; all other kinds share one more.
    """
    named = [kind for lane in lanes for kind in lane]
    work: list[dict[str, Collection[str]]] = [{"kinds": lane} for lane in lanes]
    work.append({"exclude": named})
    with ThreadPoolExecutor(len(work), thread_name_prefix="lane") as pool:
        running = [pool.submit(_run_lane, settings, database, handlers, stop, kinds) for kinds in work]
        for lane in running:
            lane.result()


def _run_lane(
    settings: Settings,
    database: Database,
    handlers: Mapping[str, str],
    stop: threading.Event,
    kinds: Mapping[str, Collection[str]],
) -> None:
    worker = f"{socket.gethostname()}:{os.getpid()}"[:64]
    try:
        while not stop.is_set():
            try:
                job = jobs.claim(database, worker, _LEASE_S, **kinds)
            except ParleyError as error:
                _log.warning("%s", error)
                stop.wait(_BEAT_S)
                continue
            if job is None:
                stop.wait(_IDLE_S)
                continue
            run_job(settings, database, handlers, job, worker, stop)
    finally:
        # If one lane breaks, the whole worker stops and its parent restarts it.
        stop.set()


def run_job(
    settings: Settings,
    database: Database,
    handlers: Mapping[str, str],
    job: Job,
    worker: str,
    stop: threading.Event | None = None,
) -> None:
    """Runs one claimed job with a heartbeat thread; `stop` interrupts it."""
    _log.info("job %s (%s) starts", job.id, job.kind)
    began = time.monotonic()
    context = JobContext(settings, database, job, worker, stop)
    over = threading.Event()
    pulse = threading.Thread(target=_keep_alive, args=(context, over), name="heartbeat", daemon=True)
    pulse.start()
    try:
        result = _handler(handlers, job)(job, context)
        # Inside the try: a result that cannot be stored must fail the job, not end the worker.
        context.store_with_retries(lambda: jobs.finish(database, job.id, worker, result=result or {}))
        _log.info("job %s done in %.1f s", job.id, time.monotonic() - began)
    except JobCancelled:
        if context.interrupted:
            jobs.release(database, job.id, worker)
        _log.info("job %s %s", job.id, "returned to the queue" if context.interrupted else "cancelled")
    except ParleyError as error:
        message = str(error)
        context.store_with_retries(lambda: jobs.finish(database, job.id, worker, error=message))
        _log.warning("job %s failed: %s", job.id, error)
    except Exception as error:
        # A bug: the log has the traceback, the row one line.
        _log.exception("job %s broke", job.id)
        message = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        context.store_with_retries(
            lambda: jobs.finish(database, job.id, worker, error=f"{message} (see the worker's log)")
        )
    finally:
        over.set()
        pulse.join()


def _handler(handlers: Mapping[str, str], job: Job) -> Handler:
    if job.kind not in handlers:
        raise ParleyError(f"This Parley has no handler for jobs of kind {job.kind!r}.")
    module, _, function = handlers[job.kind].partition(":")
    return getattr(import_module(module), function)


def _keep_alive(context: JobContext, over: threading.Event) -> None:
    while not over.wait(_BEAT_S):
        try:
            context.beat()
        except ParleyError as error:
            _log.warning("heartbeat: %s", error)
