"""The gateway process of `bench.schemathesis`, with a fake engine and upstream, and ids of things that exist there."""

import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.gateway_process import GatewayProcess, register_engine
from models.database import Database
from models.files import Files
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec, Upstream
from models.uploads import Uploads

ENGINE, HOSTED, SPARES = "base", "org/hosted", 24
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
_ROW = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]}


@dataclass(frozen=True)
class Target:
    """The gateway's address and log, and existing ids by parameter name.

    `spare` has ids for requests that delete or end what they name.
    """

    url: str
    log: Path
    ids: Mapping[str, list[str]]
    spare: Mapping[str, list[str]]


@contextmanager
def run_gateway(folder: Path, database_url: str | None = None) -> Iterator[Target]:
    """Runs the gateway and its fake engine inside the block; over SQLite, or the given database."""
    gateway = GatewayProcess(folder, database_url=database_url)
    with _engine() as address:
        ids, spare = _create_objects(gateway.settings, gateway.database, address)
        with gateway:
            jobs = [_create_job(gateway.base_url, ids["training_file"][0], number) for number in range(SPARES)]
            ids, spare = ids | {"job_id": jobs[:8]}, spare | {"job_id": jobs[8:]}
            yield Target(gateway.base_url.removesuffix("/v1"), gateway.log, ids, spare)


def _create_objects(
    settings: Settings, database: Database, address: str
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Models, aliases, files and uploads; returns `ids` and `spare` of `Target`."""
    register_engine(settings, database, ENGINE, address)
    registry = Registry(database)
    upstream = Upstream(base_url=f"{address}/v1", model="elsewhere")
    registry.register(ModelSpec(id=HOSTED, kind="hosted", upstream=upstream))
    for number in range(SPARES):
        registry.alias(f"spare-{number}", ENGINE)
    files, uploads = Files(settings, database), Uploads(settings, database)
    content = json.dumps(_ROW).encode() + b"\n"
    file_ids = [files.store(f"{number}.jsonl", content, "fine-tune").id for number in range(SPARES)]
    upload_ids = [
        uploads.create(filename="large.jsonl", purpose="fine-tune", size=9, mime_type="text/jsonl").id
        for _ in range(SPARES)
    ]
    ids = {
        "model": [ENGINE, HOSTED],
        "file_id": file_ids[:4],
        "upload_id": upload_ids[:4],
        "file": file_ids[:2],
        "training_file": file_ids[:2],
        "validation_file": file_ids[2:4],
    }
    spare = {
        "model": [f"spare-{number}" for number in range(SPARES)],
        "file_id": file_ids[4:],
        "upload_id": upload_ids[4:],
    }
    return ids, spare


def _create_job(url: str, training_file: str, number: int) -> str:
    """Creates a fine-tuning job, which stays queued because no worker runs; returns its id."""
    body = {"model": ENGINE, "training_file": training_file, "seed": number}
    request = urllib.request.Request(  # noqa: S310 -- our own gateway on loopback
        f"{url}/fine_tuning/jobs", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- as above
        return json.load(answer)["id"]


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
            events = b"".join(b"data: %s\n\n" % json.dumps(frame).encode() for frame in answer["frames"])
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
        """Logs nothing."""


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
    full = {"message": {"role": "assistant", "content": "Hello"}} if "chat" in path else {"text": "Hello"}
    part = {"delta": {"content": "Hello"}} if "chat" in path else {"text": "Hello"}
    whole = head | {"choices": [choice | full], "usage": _USAGE}
    return {"whole": whole, "frames": [head | {"choices": [choice | part]}, head | {"choices": [], "usage": _USAGE}]}
