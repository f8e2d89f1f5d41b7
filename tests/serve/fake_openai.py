"""A fake OpenAI, for the one server that tests cannot have: models and fine-tuning jobs of an invented account.

It listens on a real socket and answers in the shapes of OpenAI's API, pages of jobs included.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "sk-fake-account"
PAGE = 2


def model(name: str, created: int = 1_700_000_000, **fields: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "acme", **fields}


def job(name: str, base: str, tuned: str | None, status: str = "succeeded") -> dict[str, Any]:
    return {
        "id": name,
        "object": "fine_tuning.job",
        "created_at": 1_700_000_000,
        "finished_at": 1_710_000_000 if tuned else None,
        "model": base,
        "fine_tuned_model": tuned,
        "organization_id": "org-acme",
        "status": status,
        "trained_tokens": 1234,
        "hyperparameters": {"n_epochs": 3},
        "result_files": [],
        "seed": 1,
        "training_file": "file-1",
        "method": {"type": "supervised"},
    }


MODELS = [
    model("gpt-4o"),
    model("ft:gpt-4o-mini-2024-07-18:acme:support:A1", 1_705_000_000),
    model("ft:gpt-4.1-2025-04-14:acme::B2", 1_720_000_000),
    model("ft:gpt-5-nano:acme::C3", 1_730_000_000, shutdown_date="2028-05-01"),
    model("ft:davinci-002:acme::D4", 1_600_000_000),
]
JOBS = [
    job("ftjob-1", "gpt-4o-mini-2024-07-18", "ft:gpt-4o-mini-2024-07-18:acme:support:A1"),
    job("ftjob-2", "gpt-4.1-2025-04-14", "ft:gpt-4.1-2025-04-14:acme::B2"),
    job("ftjob-3", "gpt-4o", None, "failed"),
    job("ftjob-4", "gpt-4o-2024-08-06", "ft:gpt-4o-2024-08-06:acme::deleted"),
    job("ftjob-5", "gpt-5-nano", "ft:gpt-5-nano:acme::C3"),
]


class FakeOpenAI:
    """The server, in a thread. `.base_url` ends in `/v1`. Without `jobs` it is one that knows no fine-tuning."""

    def __init__(self, *, jobs: bool = True) -> None:
        self._handler = _Handler if jobs else _WithoutJobs

    def __enter__(self) -> "FakeOpenAI":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    jobs = True

    def do_GET(self) -> None:
        if self.headers.get("authorization") != f"Bearer {KEY}":
            self._send({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, 401)
            return
        split = urlsplit(self.path)
        if split.path == "/v1/models":
            self._send({"object": "list", "data": MODELS})
        elif split.path == "/v1/fine_tuning/jobs" and self.jobs:
            after = parse_qs(split.query).get("after", [None])[0]
            first = next((i + 1 for i, one in enumerate(JOBS) if one["id"] == after), 0)
            self._send({"object": "list", "data": JOBS[first : first + PAGE], "has_more": first + PAGE < len(JOBS)})
        else:
            self._send({"error": {"message": "unknown url"}}, 404)

    def _send(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
        return


class _WithoutJobs(_Handler):
    jobs = False
