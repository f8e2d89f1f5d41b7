"""A whole Parley in a new home: an engine with the demo's base, and a stand-in upstream; batches through the SDK."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
from openai.types import Batch

from models.database import Database, open_database, upgrade
from models.demo import BASE, catalogue
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from serve.fleet.vllm_command import free_port
from serve.launcher.up_process import Running, start

CHAT = "/v1/chat/completions"
STAND_IN = "stand-in"
_FINAL = ("completed", "failed", "expired", "cancelled")
_START_S, _BATCH_S, _POLL_S = 240.0, 1800.0, 0.05


@dataclass
class Deployment:
    """A running Parley, and a client of it."""

    running: Running
    settings: Settings
    database: Database
    client: openai.OpenAI

    @property
    def engine_address(self) -> str:
        """The engine's own address, without /v1."""
        return str(engine_states.read_statuses(self.database)[BASE].address)

    @property
    def engine_key(self) -> str:
        """The engine's own key."""
        return engine_states.engine_key(engine_states.read_key(self.settings.home), BASE)

    def create(self, rows: Iterable[dict[str, Any]]) -> Batch:
        """Uploads rows and creates their batch."""
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file = self.client.files.create(file=("rows.jsonl", content), purpose="batch")
        return self.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")

    def wait(self, batch: Batch, *statuses: str) -> Batch:
        """The batch when it has one of the statuses, or has ended. Raises TimeoutError."""
        deadline = time.monotonic() + _BATCH_S
        while (now := self.client.batches.retrieve(batch.id)).status not in (*statuses, *_FINAL):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{batch.id} is still {now.status}")
            time.sleep(_POLL_S)
        return now

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a result file; none where there is no file."""
        if file_id is None:
            return []
        return [json.loads(line) for line in self.client.files.content(file_id).text.splitlines()]

    def process(self, command: str) -> psutil.Process:
        """The process `parley COMMAND` of this Parley, without its guardian."""
        family = psutil.Process(self.running.pid).children(recursive=True)
        found = [process for process in family if process.cmdline()[-1:] == [command] or command in process.cmdline()]
        return next(process for process in found if "guardian" not in " ".join(process.cmdline()))


def row(number: int, model: str, text: str, tokens: int) -> dict[str, Any]:
    """A line of a batch's input whose answer has exactly that many tokens, if an engine gives it."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0}
    if model == BASE:
        body["ignore_eos"] = True
    return {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": body}


@contextmanager
def deployment(folder: Path, *, engine: bool) -> Iterator[Deployment]:
    """`parley up` without its page, with an engine or without, and the stand-in upstream."""
    settings = load_settings(home=folder / "home", port=free_port(), log_level="warning")
    upgrade(settings)
    database = open_database(settings)
    registry = Registry(database)
    if engine:
        base = next(model for model in catalogue() if model.id == BASE)
        registry.register(ModelSpec(id=BASE, kind="base", path=str(base.weights), toy=True))
    with _stand_in(settings) as address:
        upstream = Upstream(base_url=address, model=STAND_IN)
        registry.register(ModelSpec(id=STAND_IN, kind="hosted", upstream=upstream))
        with start(settings, page=False) as running:
            running.wait_ready(_START_S)
            with openai.OpenAI(base_url=settings.gateway_url, api_key="no-key", timeout=600) as client:
                yield Deployment(running, settings, database, client)
    database.dispose()


@contextmanager
def _stand_in(settings: Settings) -> Iterator[str]:
    """The address of an upstream that answers after 20 ms."""
    command = [sys.executable, "-m", "tests.evals.upstream", "--latency-s", "0.02"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment(settings))
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.kill()
        server.wait()
