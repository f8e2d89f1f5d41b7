"""A gateway on a real socket with the fine-tuning API, an OpenAI client, and a worker that tests run."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import OpenAI
from sqlalchemy import update

import parley
from models.database import Database, open_database, upgrade, utcnow
from models.files.stored_files import Files
from models.jobs import jobs
from models.jobs.worker import run_job
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from models.tables import JobRow
from serve.gateway.app import create_app
from tests.stack import free_ports
from tests.train.conftest import style_rows


def end_leases(database: Database) -> None:
    """Let the next worker take a killed one's job now; its lease would run out in half a minute."""
    leased = JobRow.lease_until.is_not(None)
    with database.write() as session:
        session.execute(update(JobRow).where(leased).values(lease_until=utcnow() - timedelta(seconds=1)))


@dataclass(frozen=True)
class House:
    """A home with a base called `tiny`, also mapped from `gpt-4o-mini`, behind a gateway."""

    settings: Settings
    database: Database
    client: OpenAI

    def upload(self, rows: Sequence[Any] | bytes | int = 12, purpose: str = "fine-tune") -> str:
        """Stores rows, that many easy ones, or bytes; returns the file's id."""
        if isinstance(rows, int):
            rows = style_rows(rows)
        content = rows if isinstance(rows, bytes) else "\n".join(json.dumps(row) for row in rows).encode()
        return Files(self.settings, self.database).store("train.jsonl", content, purpose).id

    def work(self, *kinds: str) -> None:
        """Runs waiting jobs of these kinds (default: all), one after another, as the worker would."""
        while (job := jobs.claim(self.database, "worker", kinds=kinds or None)) is not None:
            run_job(self.alone, self.database, parley.JOB_HANDLERS, job, "worker")

    @property
    def alone(self) -> Settings:
        """The same settings for a worker, without a gateway, because no engine runs that it could wait for."""
        return self.settings.model_copy(update={"port": free_ports(1)[0]})

    def messages(self, job_id: str) -> list[str]:
        """The messages of a job's events, oldest first."""
        events = self.client.fine_tuning.jobs.list_events(job_id, limit=1000).data
        return [event.message for event in reversed(events)]

    def until(self, true: Callable[[], Any], timeout_s: float = 120) -> None:
        """Waits until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.05)


def open_house(home: Path, base: Path, **settings: Any) -> Iterator[House]:
    """A house over `home`, with the base in a folder."""
    (port,) = free_ports(1)
    chosen = load_settings(
        home=home, port=port, device="cpu", fine_tuning_models={"gpt-4o-mini": "tiny", "gpt-4o": "gone"}, **settings
    )
    upgrade(chosen)
    database = open_database(chosen)
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(base)))
    app = create_app(chosen, database, parley.api_routes(chosen, database))
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="on", log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with OpenAI(base_url=chosen.gateway_url, api_key="none", max_retries=0) as client:
        yield House(chosen, database, client)
    server.should_exit = True
    thread.join(10)
    database.dispose()


@pytest.fixture
def house(home: Path, tmp_path: Path) -> Iterator[House]:
    """A house whose base has no weights, for tests without training."""
    base = tmp_path / "shell"
    base.mkdir()
    (base / "model.safetensors").touch()
    yield from open_house(home, base)


@pytest.fixture
def training_house(home: Path, tiny_base: Path) -> Iterator[House]:
    """A house with a base that can be trained."""
    yield from open_house(home, tiny_base)
