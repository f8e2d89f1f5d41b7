"""A gateway with every room's routes, an upstream that answers, and the worker's jobs run on request."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import psutil
from sqlalchemy import select

import parley
from evals.api_tables import EvalRunRow
from evals.eval_runs.runs import EVAL_RUN
from models.database import Database
from models.home.instance import STATE_FILE
from models.jobs.jobs import claim, get_job, release
from models.jobs.worker import run_job, run_worker
from models.settings.settings import Settings
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import Serving, serving


@dataclass
class EvalsHouse:
    """The SDK's client, the gateway, the upstream, and the settings of its home."""

    client: openai.OpenAI
    gateway: Serving
    upstream: AnsweringServer
    settings: Settings
    database: Database

    def work(self) -> Any:
        """Runs the oldest run's job, as the worker does; returns the job."""
        job = claim(self.database, "worker", kinds=(EVAL_RUN,))
        assert job is not None
        run_job(self.settings, self.database, parley.JOB_HANDLERS, job, "worker")
        return get_job(self.database, job.id)

    def database_job(self, run_id: str) -> str:
        """The id of a run's job."""
        with self.database.read() as session:
            job = session.scalars(select(EvalRunRow.job).where(EvalRunRow.id == run_id)).one()
        assert job is not None
        return job

    def release(self, run_id: str) -> None:
        """Returns the job of a killed worker to the queue, as its lease does in time."""
        release(self.database, self.database_job(run_id), "worker")

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker beside the gateway."""
        stop = threading.Event()
        arguments = (self.settings, self.database, parley.JOB_HANDLERS)
        thread = threading.Thread(target=run_worker, args=arguments, kwargs={"stop": stop})
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)


@contextmanager
def evals_house(settings: Settings, database: Database) -> Iterator[EvalsHouse]:
    """Two hosted models, `one` and `judge`, on an upstream that repeats the question. Python graders also run where
    there is no bubblewrap.
    """
    settings = settings.model_copy(update={"unsandboxed_graders": True})
    with AnsweringServer() as upstream, serving(settings, database, parley.api_routes(settings, database)) as gateway:
        gateway.hosted("one", "judge", base_url=upstream.address)
        client = openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)
        me = psutil.Process()
        state = {"pid": me.pid, "started": me.create_time(), "gateway": gateway.base_url}
        (settings.home / STATE_FILE).write_text(json.dumps(state))
        with client:
            yield EvalsHouse(client, gateway, upstream, settings, database)
