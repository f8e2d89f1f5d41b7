"""A gateway process for `bench.schemathesis`: over a home of its own, with an engine and an upstream that answer all.

The engine is a fake one on a real socket that answers each relayed route at once. It knows no cases and judges nothing.
"""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from models.database import Database, open_database, upgrade
from models.files import Files
from models.registry import Registry
from models.settings import Settings, child_environment, load_settings
from models.spec import ModelSpec, Upstream
from models.uploads import Uploads
from serve.fleet.engine_states import EngineStatus, write_statuses
from serve.fleet.vllm_command import free_port

ENGINE, HOSTED, SPARES = "base", "org/hosted", 24
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass(frozen=True)
class House:
    """Where the gateway is, what it wrote on standard error, and ids that exist there, by the name of their parameter.

    `spare` has ids for requests that delete or end what they name.
    """

    url: str
    log: Path
    ids: Mapping[str, list[str]]
    spare: Mapping[str, list[str]]


@contextmanager
def house(folder: Path, database_url: str | None = None) -> Iterator[House]:
    """Starts the gateway and its fake engine; ends both. Over SQLite, unless another database is named."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(home=folder, port=free_port(), log_level="warning", database_url=database_url)
    upgrade(settings)
    database = open_database(settings)
    with _engine() as address:
        ids, spare = _fill(settings, database, address)
        log = folder / "gateway.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "parley", "gateway"],
                env=child_environment(settings) | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                _wait(f"{settings.gateway_url}/models", process, log)
                jobs = [_job(settings.gateway_url, ids["training_file"][0], number) for number in range(SPARES)]
                ids, spare = ids | {"job_id": jobs[:8]}, spare | {"job_id": jobs[8:]}
                yield House(f"http://127.0.0.1:{settings.port}", log, ids, spare)
            finally:
                process.terminate()
                process.wait(20)
                database.dispose()


def _fill(settings: Settings, database: Database, address: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    registry = Registry(database)
    weights = settings.home / "weights"
    weights.mkdir()
    (weights / "model.safetensors").touch()
    registry.register(ModelSpec(id=ENGINE, kind="base", path=str(weights)))
    registry.register(
        ModelSpec(id=HOSTED, kind="hosted", upstream=Upstream(base_url=f"{address}/v1", model="elsewhere"))
    )
    write_statuses(database, [EngineStatus(ENGINE, "ready", address)])
    for number in range(SPARES):
        registry.alias(f"spare-{number}", ENGINE)
    row = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]}
    files, uploads = Files(settings, database), Uploads(settings, database)
    stored = [
        files.store(f"{number}.jsonl", json.dumps(row).encode() * 1 + b"\n", "fine-tune").id for number in range(SPARES)
    ]
    begun = [
        uploads.create(
            filename="large.jsonl", purpose="fine-tune", size=9, mime_type="text/jsonl", file_expires_after=None
        ).id
        for _ in range(SPARES)
    ]
    ids = {
        "model": [ENGINE, HOSTED],
        "file_id": stored[:4],
        "upload_id": begun[:4],
        "file": stored[:2],
        "training_file": stored[:2],
        "validation_file": stored[2:4],
    }
    spare = {
        "model": [f"spare-{number}" for number in range(SPARES)],
        "file_id": stored[4:],
        "upload_id": begun[4:],
    }
    return ids, spare


def _job(url: str, training_file: str, number: int) -> str:
    """A fine-tuning job; nobody works here, so it waits."""
    body = {"model": ENGINE, "training_file": training_file, "seed": number}
    request = urllib.request.Request(  # noqa: S310 -- as below
        f"{url}/fine_tuning/jobs", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- as below
        return json.load(answer)["id"]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- our own gateway on loopback
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError(f"The gateway did not start: {log.read_text()[-500:]}")


@contextmanager
def _engine() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Engine)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = _answers(body, self.path)
        if body.get("stream") is True and "embeddings" not in self.path:
            events = b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in answer["frames"])
            self._send(events + b"data: [DONE]\n\n", "text/event-stream")
        else:
            self._send(json.dumps(answer["whole"]).encode(), "application/json")

    def _send(self, data: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the standard library's name
        """Says nothing."""


def _answers(body: Mapping[str, Any], path: str) -> dict[str, Any]:
    model = body.get("model")
    if path.endswith("/embeddings"):
        entry = {"index": 0, "object": "embedding", "embedding": [0.5, -0.5]}
        return {"whole": {"object": "list", "data": [entry], "model": model, "usage": _USAGE}}
    if path.endswith("/responses"):
        response = {"id": "resp_1", "object": "response", "created_at": 1, "model": model, "output": []}
        events = [{"type": "response.created", "response": response}]
        return {"whole": response, "frames": [*events, {"type": "response.completed", "response": response}]}
    kind = "chat.completion" if "chat" in path else "text_completion"
    head = {"id": "cmpl-1", "object": kind, "created": 1, "model": model}
    choice = {"index": 0, "finish_reason": "stop"}
    said = {"message": {"role": "assistant", "content": "Hello"}} if "chat" in path else {"text": "Hello"}
    part = {"delta": {"content": "Hello"}} if "chat" in path else {"text": "Hello"}
    whole = head | {"choices": [choice | said], "usage": _USAGE}
    return {"whole": whole, "frames": [head | {"choices": [choice | part]}, head | {"choices": [], "usage": _USAGE}]}
