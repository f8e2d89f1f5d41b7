"""A gateway with every room's routes, an upstream that answers, and the worker's jobs run on request."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import psutil
import pytest
from sqlalchemy import select

import parley
from evals.api_tables import EvalRunRow
from evals.eval_runs.runs import EVAL_RUN
from models.database import Database
from models.home.instance import STATE_FILE
from models.jobs.jobs import claim, get_job, release
from models.jobs.worker import run_job
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


@pytest.fixture
def house(settings: Settings, database: Database) -> Iterator[EvalsHouse]:
    """Two hosted models, `one` and `judge`, on an upstream that repeats the question."""
    with AnsweringServer() as upstream, serving(settings, database, parley.api_routes(settings, database)) as gateway:
        gateway.hosted("one", "judge", base_url=upstream.address)
        client = openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)
        me = psutil.Process()
        state = {"pid": me.pid, "started": me.create_time(), "gateway": gateway.base_url}
        (settings.home / STATE_FILE).write_text(json.dumps(state))
        with client:
            yield EvalsHouse(client, gateway, upstream, settings, database)


Check = Callable[[Any], Any]


@pytest.fixture
def checked() -> Check:
    """Validates an object of the SDK by its own type: every required field, of the right type, and none unknown."""

    def check(value: Any) -> Any:
        kind = type(value)
        content = value.model_dump(by_alias=True)
        # OpenAI answers null where there is no error, though the types say otherwise.
        for holder in (content, content.get("sample")):
            if isinstance(holder, dict) and "error" in holder and holder["error"] is None:
                holder["error"] = {"code": "", "message": ""}
        kind.model_validate(content)
        # The SDK keeps a field under its alias as well.
        names = {field.alias for field in kind.model_fields.values()}
        assert set(value.model_extra or ()) <= names, value.model_extra
        return value

    return check
