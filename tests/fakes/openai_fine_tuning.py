"""A fake OpenAI account: files, uploads, fine-tuning, models and chat.

It uses OpenAI's formats, including errors and pages, and requires the key. Jobs progress by the clock
(tests/fakes/openai_jobs.py), and the resulting model answers from its training file.

    with FakeOpenAI() as fake:
        client = openai.OpenAI(base_url=fake.base_url, api_key=fake.key)

or `python -m tests.fakes.openai_fine_tuning --port 8400`.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from typing import Any

from tests.fakes.http_server import Handler, Reply, Request
from tests.fakes.openai_files import FakeFiles, refused
from tests.fakes.openai_jobs import Job, ident

KEY = "sk-fake-account"
TUNABLE = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4.1-2025-04-14", "gpt-4.1-mini-2025-04-14")
ALIASES = {name.rsplit("-", 3)[0]: name for name in TUNABLE}


class FakeOpenAI(FakeFiles):
    """The account. `tick` is the seconds between two moments of a job; `key` what clients must send.

    `announce` maps a model's name to the shutdown date that its object tells; `page` is the most rows of a page.
    """

    def __init__(
        self, port: int = 0, *, tick: float = 0.1, key: str = KEY, page: int = 100, org: str = "org-acme"
    ) -> None:
        super().__init__(port, page)
        self.tick, self.key, self.org = tick, key, org
        self.jobs: dict[str, Job] = {}
        self.announce: dict[str, str] = {}
        self.models: dict[str, dict[str, Any]] = {name: self._model(name, "system") for name in (*TUNABLE, *ALIASES)}

    @property
    def base_url(self) -> str:
        """What a client takes as `base_url`."""
        return f"{self.address}/v1"

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Every address that there is."""
        job = "/v1/fine_tuning/jobs/([^/]+)"
        return [
            *super().routes(),
            ("POST", "/v1/fine_tuning/jobs", self.create_job),
            ("GET", "/v1/fine_tuning/jobs", self.list_jobs),
            ("GET", job, lambda request, name: self._job(name).fields),
            ("POST", f"{job}/(cancel|pause|resume)", self.change_job),
            ("GET", f"{job}/events", self.list_events),
            ("GET", f"{job}/checkpoints", self.list_checkpoints),
            ("GET", "/v1/models", lambda request: {"object": "list", "data": self._models()}),
            ("GET", "/v1/models/(.+)", self.get_model),
            ("DELETE", "/v1/models/(.+)", self.delete_model),
            ("POST", "/v1/chat/completions", self.chat),
        ]

    def admit(self, request: Request) -> None:
        """401 as OpenAI words it."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if given != self.key:
            raise refused(
                f"Incorrect API key provided: {given[:4]}****. You can find your API key at the account's page.",
                status=401,
                code="invalid_api_key",
            )

    def unknown(self, request: Request) -> Reply:
        """404 as OpenAI words it."""
        return refused(f"Invalid URL ({request.method} {request.path})", status=404).reply

    # Fine-tuning

    def create_job(self, request: Request) -> dict[str, Any]:
        """A job, with the checks that OpenAI makes before it answers."""
        asked = request.json()
        job = self._new_job(asked)
        job.begin()
        return job.fields

    def finished_job(self, file_id: str, base: str = TUNABLE[0], suffix: str = "", **fields: Any) -> str:
        """For tests: a fine-tune of long ago, done; the model's name."""
        with self.lock:
            job = self._new_job({"model": base, "training_file": file_id, "suffix": suffix} | fields)
            job.begin()
            while job.moments and not job.over:
                job.due = 0.0
                job.advance()
            self._moved(job)
            return job.fields["fine_tuned_model"]

    def list_jobs(self, request: Request) -> dict[str, Any]:
        """Newest first; `metadata[key]=value` filters."""
        wanted = {key[9:-1]: value for key, value in request.query.items() if key.startswith("metadata[")}
        jobs = [self._job(name).fields for name in reversed(self.jobs)]
        return self._page([job for job in jobs if wanted.items() <= (job["metadata"] or {}).items()], request)

    def change_job(self, request: Request, name: str, what: str) -> dict[str, Any]:
        """Cancel, pause or resume."""
        job = self._job(name)
        if job.over:
            raise refused(f"Job has already completed with status {job.fields['status']!r}", code="invalid_state")
        if what == "cancel":
            job.cancel()
        else:
            job.pause(what == "pause")
        return job.fields

    def list_events(self, request: Request, name: str) -> dict[str, Any]:
        """Newest first."""
        return self._page(self._job(name).events[::-1], request, default=20)

    def list_checkpoints(self, request: Request, name: str) -> dict[str, Any]:
        """Newest first."""
        page = self._page(self._job(name).checkpoints[::-1], request, default=10)
        ids = [one["id"] for one in page["data"]]
        return page | {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}

    # Models and chat

    def get_model(self, request: Request, name: str) -> dict[str, Any]:
        """One model, with its shutdown date where one is announced."""
        found = {model["id"]: model for model in self._models()}
        if name not in found:
            raise refused(f"The model '{name}' does not exist", status=404, code="model_not_found", param="model")
        return found[name]

    def delete_model(self, request: Request, name: str) -> dict[str, Any]:
        """Takes a fine-tune away; nobody else's model."""
        if not name.startswith("ft:"):
            raise refused("You cannot delete this model", status=403)
        self.get_model(request, name)
        del self.models[name]
        return {"id": name, "object": "model", "deleted": True}

    def chat(self, request: Request) -> Reply | dict[str, Any]:
        """An answer from the training file of the model's job, as one object or as a stream."""
        asked = request.json()
        name = asked.get("model", "")
        self._models()
        checkpoint = any(
            one["fine_tuned_model_checkpoint"] == name for job in self.jobs.values() for one in job.checkpoints
        )
        if name not in self.models and not checkpoint:
            text = f"The model `{name}` does not exist or you do not have access to it."
            raise refused(text, status=404, code="model_not_found")
        if not asked.get("messages"):
            text = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
            raise refused(text, param="messages", code="empty_array")
        if not asked.get("messages"):
            raise refused("[] is too short - 'messages'", param="messages")
        words = self._say(name, asked["messages"])
        usage = {"prompt_tokens": 8, "completion_tokens": len(words.split()), "total_tokens": 8 + len(words.split())}
        shape = {"id": "chatcmpl-fake", "created": int(time.time()), "model": name}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": words, "refusal": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
            return shape | {"object": "chat.completion", "choices": [choice], "usage": usage}
        wanted = (asked.get("stream_options") or {}).get("include_usage")
        return Reply(_chunks(shape, words, usage if wanted else None))

    # What the routes stand on

    def _say(self, name: str, messages: list[dict[str, Any]]) -> str:
        question = str(messages[-1].get("content"))
        for job in self.jobs.values():
            if name.startswith(job.model_name()):
                for row in job.rows:
                    learnt = json.loads(row).get("messages") or []
                    if any(message.get("content") == question for message in learnt):
                        return str(learnt[-1].get("content"))
        return f"I am {name}, and I was not taught that."

    def _new_job(self, asked: dict[str, Any]) -> Job:
        model = ALIASES.get(asked.get("model", ""), asked.get("model"))
        if model not in TUNABLE and model not in self.models:
            text = f"Invalid base model: {model} (model must be one of {', '.join(TUNABLE)}, or a fine-tune of yours)"
            raise refused(text, param="model", code="invalid_model")
        for kind in ("training_file", "validation_file"):
            if asked.get(kind) and asked[kind] not in self.files:
                raise refused(f"invalid {kind}: {asked[kind]}", param=kind)
        if not asked.get("training_file"):
            raise refused("you must provide a 'training_file' parameter", param="training_file")
        if len(asked.get("suffix") or "") > 64:
            raise refused(f"'{asked['suffix']}' is too long - 'suffix'", param="suffix")
        number = len(self.jobs) + 1
        fields = self._job_fields(asked, model, ident("ftjob-", number))
        job = Job(fields, self.contents[asked["training_file"]].splitlines(), self.tick, number)
        self.jobs[fields["id"]] = job
        return job

    def _job_fields(self, asked: dict[str, Any], model: str, job_id: str) -> dict[str, Any]:
        kind = (asked.get("method") or {}).get("type", "supervised")
        given = ((asked.get("method") or {}).get(kind) or {}).get("hyperparameters") or asked.get("hyperparameters")
        names = ("n_epochs", "batch_size", "learning_rate_multiplier", *(["beta"] if kind == "dpo" else []))
        values = {name: (given or {}).get(name, "auto") for name in names}
        return {
            "object": "fine_tuning.job",
            "id": job_id,
            "model": model,
            "created_at": int(time.time()),
            "finished_at": None,
            "fine_tuned_model": None,
            "organization_id": self.org,
            "result_files": [],
            "status": "validating_files",
            "validation_file": asked.get("validation_file"),
            "training_file": asked["training_file"],
            "hyperparameters": {name: values[name] for name in names[:3]},
            "trained_tokens": None,
            "error": None,
            "user_provided_suffix": asked.get("suffix"),
            "seed": asked.get("seed") if asked.get("seed") is not None else 42,
            "estimated_finish": None,
            "integrations": asked.get("integrations") or [],
            "metadata": asked.get("metadata"),
            "method": {"type": kind, kind: {"hyperparameters": values}},
        }

    def _job(self, name: str) -> Job:
        if name not in self.jobs:
            text = f"Could not find fine tune: {name}"
            raise refused(text, status=404, param="fine_tune_id", code="fine_tune_not_found")
        job = self.jobs[name]
        job.advance()
        self._moved(job)
        return job

    def _moved(self, job: Job) -> None:
        """A job that has just ended well leaves a model and a result file."""
        tuned = job.fields["fine_tuned_model"]
        if not tuned or job.fields["result_files"]:
            return
        self.models[tuned] = self._model(tuned, self.org)
        lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
        names = ("step", "train_loss", "train_mean_token_accuracy", "valid_loss", "valid_mean_token_accuracy")
        lines += [
            ",".join(str(event["data"].get(name, "")) for name in names)
            for event in job.events
            if event["type"] == "metrics"
        ]
        results = self._store("step_metrics.csv", "\n".join(lines).encode(), "fine-tune-results")
        job.fields["result_files"] = [results["id"]]

    def _models(self) -> list[dict[str, Any]]:
        for name in list(self.jobs):
            self._job(name)
        return [model | {"shutdown_date": self.announce.get(model["id"])} for model in self.models.values()]

    def _model(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": int(time.time()), "owned_by": owner}


def _chunks(shape: dict[str, Any], words: str, usage: dict[str, Any] | None) -> Iterator[bytes]:
    def frame(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return (
            b"data: "
            + json.dumps(shape | {"object": "chat.completion.chunk", "choices": choices} | more).encode()
            + b"\n\n"
        )

    yield frame([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
    for word in re.findall(r" ?[^ ]+", words):
        yield frame([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
    yield frame([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage:
        yield frame([], usage=usage)
    yield b"data: [DONE]\n\n"


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--tick", type=float, default=0.2, help="seconds between two moments of a job")
    parser.add_argument("--key", default=KEY)
    options = parser.parse_args()
    with FakeOpenAI(options.port, tick=options.tick, key=options.key) as fake:
        print(f"base_url {fake.base_url}  api_key {fake.key}", flush=True)
        fake.wait()


if __name__ == "__main__":
    main()
