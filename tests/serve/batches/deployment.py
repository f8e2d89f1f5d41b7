"""A gateway with every room's routes before an upstream that answers, and a worker that runs batches."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import psutil
from openai.types import Batch

import parley
from models.database import Database
from models.home.instance import STATE_FILE
from models.jobs.jobs import Job, claim, get_job
from models.jobs.worker import run_job, run_worker
from models.settings.settings import Settings
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import Serving, serving

CHAT = "/v1/chat/completions"
FINAL = ("completed", "failed", "expired", "cancelled")


def row(custom_id: str, question: str = "hello", url: str = CHAT, **body: Any) -> dict[str, Any]:
    """A line of an input file."""
    messages = [{"role": "user", "content": question}]
    given = {"messages": messages} if url == CHAT else {}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"model": "one"} | given | body}


def content_of(rows: Sequence[Any]) -> bytes:
    """An input file; a text is a line as it stands."""
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in rows).encode()


@dataclass
class BatchDeployment:
    """The SDK's client, the gateway, the upstream, and the settings of its home."""

    client: openai.OpenAI
    gateway: Serving
    upstream: AnsweringServer
    settings: Settings
    database: Database

    def as_key(self, key: str) -> openai.OpenAI:
        """A client with a key."""
        return openai.OpenAI(base_url=self.gateway.base_url, api_key=key, max_retries=0)

    def create(self, rows: Sequence[Any], *, client: openai.OpenAI | None = None, **more: Any) -> Batch:
        """Uploads rows and creates their batch."""
        used = client or self.client
        file = used.files.create(file=("input.jsonl", content_of(rows)), purpose="batch")
        options: Any = {"endpoint": CHAT, "completion_window": "24h"} | more
        return used.batches.create(input_file_id=file.id, **options)

    def work(self) -> Job:
        """Runs the oldest batch's job, as the worker does; returns the job."""
        job = claim(self.database, "worker", kinds=("batch",))
        assert job is not None
        run_job(self.settings, self.database, parley.JOB_HANDLERS, job, "worker")
        return get_job(self.database, job.id)

    def run(self, rows: Sequence[Any], **more: Any) -> Batch:
        """A batch that has been run."""
        batch = self.create(rows, **more)
        self.work()
        return (more.get("client") or self.client).batches.retrieve(batch.id)

    def lines(self, file_id: str | None, client: openai.OpenAI | None = None) -> list[dict[str, Any]]:
        """The lines of a result file; none where there is no file."""
        if file_id is None:
            return []
        text = (client or self.client).files.content(file_id).text
        return [json.loads(line) for line in text.splitlines()]

    @contextmanager
    def working(self) -> Iterator[threading.Event]:
        """A worker beside the gateway; the event stops it."""
        stop = threading.Event()
        arguments = (self.settings, self.database, parley.JOB_HANDLERS)
        lanes = {"stop": stop, "lanes": parley.JOB_LANES}
        thread = threading.Thread(target=run_worker, args=arguments, kwargs=lanes)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(30)

    def wait(self, batch_id: str, *statuses: str) -> Batch:
        """The batch when it has one of the statuses, or has ended."""
        deadline = time.monotonic() + 60
        while (batch := self.client.batches.retrieve(batch_id)).status not in (*statuses, *FINAL):
            assert time.monotonic() < deadline, batch
            time.sleep(0.02)
        return batch


def write_state(settings: Settings, base_url: str) -> None:
    """Writes where the home's gateway is, as `parley up` does."""
    me = psutil.Process()
    state = {"pid": me.pid, "started": me.create_time(), "gateway": base_url}
    (settings.home / STATE_FILE).write_text(json.dumps(state))


@contextmanager
def batch_deployment(settings: Settings, database: Database) -> Iterator[BatchDeployment]:
    """Two hosted models, `one` and `two`, on an upstream that repeats the question."""
    with AnsweringServer() as upstream, serving(settings, database, parley.api_routes(settings, database)) as gateway:
        gateway.hosted("one", "two", base_url=upstream.address)
        write_state(settings, gateway.base_url)
        with openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
            yield BatchDeployment(client, gateway, upstream, settings, database)
