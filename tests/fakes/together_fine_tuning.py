"""A fake Together AI account: files, fine-tuning, prices and chat.

It implements what Together's SDK uses: uploads by redirect and PUT, a model's limits, a price estimate, jobs with
events. Jobs progress by the clock; nothing is trained.

    with FakeTogether() as fake:
        client = together.Together(base_url=fake.base_url, api_key=fake.key)

or `python -m tests.fakes.together_fine_tuning --port 8401`.
"""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fakes.http_server import FakeServer, Handler, Refusal, Reply, Request

KEY = "tgp-fake-account"
MODELS = ("meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", "Qwen/Qwen3-8B")
PRICE_PER_TOKEN = 0.48 / 1e6


@dataclass
class Job:
    """One job: the API's object, and the moments still to come."""

    fields: dict[str, Any]
    rows: list[bytes]
    moments: list[tuple[str, str, str, dict[str, Any]]]
    due: float
    metrics: list[dict[str, float]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.fields["status"] in ("completed", "cancelled", "error")

    def tell(self, kind: str, message: str, level: str = "info", **more: Any) -> None:
        """Adds an event; the oldest comes first, as Together lists them."""
        event = {"object": "fine-tune-event", "created_at": _now(), "level": level, "message": message, "type": kind}
        self.fields["events"].append(event | more)

    def advance(self, tick: float) -> None:
        """Plays the moments that have come."""
        while self.moments and not self.over and time.monotonic() >= self.due:
            self.due += tick
            status, kind, message, more = self.moments.pop(0)
            if "loss" in more:
                names = ("global_step", "train/loss")
                self.metrics.append(dict(zip(names, (float(more["step"]), more.pop("loss")), strict=True)))
            self.tell(kind, message, "error" if status == "error" else "info", **more)
            self.fields |= {"status": status, "updated_at": _now()}
            if status == "completed":
                self.fields["token_count"] = sum(len(row) for row in self.rows) // 4 * self.fields["n_epochs"]
                self.fields["total_price"] = round(self.fields["token_count"] * PRICE_PER_TOKEN * 1e9)


class FakeTogether(FakeServer):
    """The account. `tick` is the seconds between two moments of a job; `checking` how long a file is validated."""

    def __init__(self, port: int = 0, *, tick: float = 0.02, checking: float = 0.05, key: str = KEY) -> None:
        super().__init__(port)
        self.tick, self.checking, self.key = tick, checking, key
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.jobs: dict[str, Job] = {}

    @property
    def base_url(self) -> str:
        """What Together's SDK takes as `base_url`: without /v1."""
        return self.address

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Every address that there is."""
        file, job = "/v1/files/([^/]+)", "/v1/fine-tunes/([^/]+)"
        return [
            ("POST", "/v1/files", self.create_file),
            ("PUT", "/storage/([^/]+)", self.put_content),
            ("POST", f"{file}/preprocess", lambda request, name: self._file(name)),
            ("GET", "/v1/files", lambda request: {"data": [self._file(name) for name in self.files]}),
            ("GET", file, lambda request, name: self._file(name)),
            ("GET", f"{file}/content", lambda request, name: Reply(self.contents[self._file(name)["id"]])),
            ("DELETE", file, self.delete_file),
            ("GET", "/v1/fine-tunes/models/limits", self.limits),
            ("POST", "/v1/fine-tunes/estimate-price", self.estimate),
            ("POST", "/v1/fine-tunes", self.create_job),
            ("GET", "/v1/fine-tunes", lambda request: {"data": [_truncated(self._job(name)) for name in self.jobs]}),
            ("GET", job, lambda request, name: self._job(name).fields),
            ("POST", f"{job}/cancel", self.cancel_job),
            ("GET", f"{job}/events", lambda request, name: {"data": self._job(name).fields["events"]}),
            ("GET", f"{job}/metrics", lambda request, name: {"metrics": self._job(name).metrics}),
            ("GET", f"{job}/checkpoints", lambda request, name: {"data": []}),
            ("POST", "/v1/chat/completions", self.chat),
        ]

    def admit(self, request: Request) -> None:
        """401 as Together words it; its storage is asked with a signed address and no key."""
        if request.path.startswith("/storage/"):
            return
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise refused("Invalid API key provided", 401, "invalid_api_key")

    def create_file(self, request: Request) -> Reply:
        """Where to put the bytes; one that is there already is a 409 that names it."""
        checksum, name = request.form.get("checksum"), request.form["file_name"]
        known = next((one["id"] for one in self.files.values() if one["checksum"] == checksum), None)
        if known:
            raise Refusal(409, {"file_id": known})
        file_id = f"file-{len(self.files) + 1:08d}"
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": 0,
            "created_at": int(time.time()),
            "filename": name,
            "FileType": request.form.get("file_type", "jsonl"),
            "purpose": request.form["purpose"],
            "processing_status": "PENDING",
            "checksum": checksum,
            "ready_at": 0.0,
        }
        headers = {"location": f"{self.address}/storage/{file_id}", "x-together-file-id": file_id}
        return Reply(b"", 302, headers)

    def put_content(self, request: Request, name: str) -> dict[str, Any]:
        """The bytes, at the storage's own address."""
        file = self.files[name]
        if hashlib.sha256(request.body).hexdigest() != file["checksum"]:
            raise refused("checksum mismatch", 400)
        self.contents[name] = request.body
        file |= {"bytes": len(request.body), "ready_at": time.monotonic() + self.checking}
        return {}

    def delete_file(self, request: Request, name: str) -> dict[str, Any]:
        """Takes it away."""
        self._file(name)
        del self.files[name], self.contents[name]
        return {"id": name, "deleted": True}

    def limits(self, request: Request) -> dict[str, Any]:
        """What may be asked of a model."""
        self._known(request.query["model_name"])
        sizes = {"max_batch_size": 32, "max_batch_size_dpo": 16, "min_batch_size": 8}
        return {
            "model_name": request.query["model_name"],
            "default_gradient_accumulation_steps": 1,
            "lora_training": sizes | {"default_rank": 8, "max_rank": 64, "target_modules": ["q_proj", "v_proj"]},
            "full_training": sizes,
            "max_learning_rate": 1e-2,
            "min_learning_rate": 1e-8,
            "max_num_checkpoints": 10,
            "max_num_epochs": 20,
            "max_num_evals": 100,
            "max_seq_length_sft": 8192,
            "max_seq_length_dpo": 4096,
            "min_max_seq_length": 1024,
            "merge_output_lora": True,
            "supports_full_training": True,
            "supports_reasoning": False,
            "supports_tools": True,
            "supports_vision": False,
        }

    def estimate(self, request: Request) -> dict[str, Any]:
        """The price, once the file has been validated."""
        asked = request.json()
        file = self._file(asked["training_file"])
        if file["processing_status"] != "COMPLETED":
            return {"estimation_available": False, "unavailable_reason": "train_file_not_validated"}
        tokens = file["bytes"] // 4 * int(asked.get("n_epochs") or 1)
        price = tokens * PRICE_PER_TOKEN
        counted = {"estimated_train_token_count": tokens, "estimated_eval_token_count": 0, "user_limit": 100.0}
        return {
            "estimation_available": True,
            "allowed_to_proceed": price < 100,
            "estimated_total_price": price,
        } | counted

    def create_job(self, request: Request) -> dict[str, Any]:
        """A job, with the checks that Together makes before it answers."""
        asked = request.json()
        self._known(asked.get("model"))
        file = self._file(asked["training_file"])
        if file["processing_status"] == "INVALID_FORMAT":
            raise refused(f"File {file['id']} is not valid for fine-tuning", 400)
        number = len(self.jobs) + 1
        job_id = f"ft-{number:08x}-fake"
        suffix = asked.get("suffix")
        base = asked["model"].rsplit("/", 1)[-1]
        output = "-".join(part for part in (f"acme/{base}", suffix, f"{number:08x}") if part)
        rows = self.contents[asked["training_file"]].splitlines()
        kept = ("model", "training_file", "validation_file", "n_epochs", "batch_size", "learning_rate", "suffix")
        fields = {name: asked.get(name) for name in (*kept, "training_type", "training_method", "random_seed")}
        now = _now()
        fields |= {
            "id": job_id,
            "status": "pending",
            "user_id": "user-fake",
            "created_at": now,
            "updated_at": now,
            "model_output_name": output,
            "events": [],
            "n_evals": asked.get("n_evals"),
            "batch_size": 8 if asked.get("batch_size") == "max" else asked.get("batch_size"),
        }
        job = Job(fields, rows, list(_plan(len(rows), asked)), time.monotonic() + self.tick)
        job.tell("job_pending", "Fine tune request created")
        self.jobs[job_id] = job
        return _truncated(job)

    def cancel_job(self, request: Request, name: str) -> dict[str, Any]:
        """Ends it, as the caller asked."""
        job = self._job(name)
        if job.over:
            raise refused(f"Job {name} is already {job.fields['status']}", 400)
        job.tell("cancel_requested", "Cancel requested")
        job.fields["status"] = "cancelled"
        job.tell("job_stopped", "Job was stopped")
        return _truncated(job)

    def chat(self, request: Request) -> dict[str, Any]:
        """An answer from the training file of the model's job."""
        asked = request.json()
        jobs = [self._job(name) for name in self.jobs]
        found = [job for job in jobs if job.fields["model_output_name"] == asked["model"] and job.over]
        if not found:
            raise refused(f"Unable to access model {asked['model']}", 404, "model_not_available")
        question = asked["messages"][-1]["content"]
        learnt = [json.loads(row)["messages"] for row in found[0].rows]
        said = next((row[-1]["content"] for row in learnt if row[-2]["content"] == question), "I was not taught that.")
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}
        shape = {"id": "fake", "object": "chat.completion", "created": int(time.time()), "model": asked["model"]}
        return shape | {"choices": [choice], "usage": usage}

    def _file(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise refused(f"File {name} not found", 404)
        file = self.files[name]
        if file["processing_status"] == "PENDING" and file["ready_at"] and time.monotonic() > file["ready_at"]:
            fault = _fault(self.contents[name])
            file["processing_status"] = "INVALID_FORMAT" if fault else "COMPLETED"
            report = {"valid": fault is None, "file_id": name}
            file["validation_report"] = report | ({"error": fault, "error_type": "INVALID_FORMAT"} if fault else {})
        return file

    def _job(self, name: str) -> Job:
        if name not in self.jobs:
            raise refused(f"Fine-tune job {name} not found", 404)
        self.jobs[name].advance(self.tick)
        return self.jobs[name]

    def _known(self, model: str | None) -> None:
        if model not in MODELS:
            raise refused(f"Model {model} is not supported for fine-tuning", 400, "model_not_supported")


def refused(message: str, status: int, code: str | None = None) -> Refusal:
    """An error in Together's shape."""
    return Refusal(
        status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    )


def _plan(rows: int, asked: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """(status, type of event, message, more) of each moment."""
    size = 8 if asked.get("batch_size") == "max" else asked["batch_size"]
    steps = max(1, rows * asked["n_epochs"] // size)
    moments: list[tuple[str, str, str, dict[str, Any]]] = [
        ("queued", "job_start", "Job started", {}),
        ("running", "training_data_download_complete", "Training data downloaded", {}),
        ("running", "training_start", "Training started", {"total_steps": steps}),
    ]
    for epoch in range(1, asked["n_epochs"] + 1):
        step = max(1, steps * epoch // asked["n_epochs"])
        loss = {"loss": round(3.0 / (1 + epoch), 4)}
        moments.append(("running", "epoch_complete", f"Epoch completed, at step {step}", {"step": step} | loss))
    return [
        *moments,
        ("running", "training_complete", "Training completed", {}),
        ("compressing", "model_compressing", "Compressing model", {}),
        ("uploading", "model_uploading", "Uploading model", {}),
        ("completed", "job_complete", "Job finished", {}),
    ]


def _fault(content: bytes) -> str | None:
    for line, row in enumerate(content.splitlines(), 1):
        try:
            value = json.loads(row)
        except ValueError:
            return f"line {line} is not valid JSON"
        if not any(name in value for name in ("messages", "prompt", "text", "preferred_output")):
            return f"line {line} has none of the known formats"
    return None


def _truncated(job: Job) -> dict[str, Any]:
    return {name: value for name, value in job.fields.items() if name != "events"}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8401)
    parser.add_argument("--tick", type=float, default=0.2, help="seconds between two moments of a job")
    parser.add_argument("--key", default=KEY)
    options = parser.parse_args()
    with FakeTogether(options.port, tick=options.tick, key=options.key) as fake:
        print(f"base_url {fake.base_url}  api_key {fake.key}", flush=True)
        fake.wait()


if __name__ == "__main__":
    main()
