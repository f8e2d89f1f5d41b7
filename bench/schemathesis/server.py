"""The gateway process of `bench.schemathesis`, with a fake engine and upstream, and ids of things that exist there."""

import json
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.gateway_process import GatewayProcess, register_engine
from evals.eval_runs.evals import Caller, create_eval
from evals.eval_runs.requests import EvalCreate, RunCreate
from evals.eval_runs.runs import create_run
from models.database import Database
from models.files.stored_files import Files
from models.files.uploads import Uploads
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream

ENGINE, HOSTED, SPARES = "base", "org/hosted", 24
_ROW = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]}


@dataclass(frozen=True)
class Target:
    """The gateway's address, an owner's key and the log, and existing ids by parameter name.

    `spare` has ids for requests that delete or end what they name.
    """

    url: str
    key: str
    log: Path
    ids: Mapping[str, list[str]]
    spare: Mapping[str, list[str]]


@contextmanager
def run_gateway(folder: Path, database_url: str | None = None) -> Iterator[Target]:
    """Runs the gateway and its fake engine inside the block; over SQLite, or the given database."""
    from tests.serve.paced_upstream import PacedUpstream

    gateway = GatewayProcess(folder, database_url=database_url)
    with PacedUpstream(chunks=1) as upstream:
        ids, spare = _create_objects(gateway.settings, gateway.database, upstream.address)
        # Requests create keys, and from the first one on every request needs one.
        key = create_key(gateway.database, name="requests", role="owner")
        with gateway:
            jobs = [_create_job(gateway.base_url, key, ids["training_file"][0], number) for number in range(SPARES)]
            ids, spare = ids | {"job_id": jobs[:8]}, spare | {"job_id": jobs[8:]}
            yield Target(gateway.base_url.removesuffix("/v1"), key, gateway.log, ids, spare)


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
    for name in ("client", *(f"spare-{number}" for number in range(SPARES))):
        create_key(database, name=name, role="client")
    evals = [_create_eval(database) for _ in range(SPARES)]
    runs = [_create_run(settings, database, evals[number % 4]) for number in range(SPARES)]
    ids = {
        "eval_id": evals[:4],
        "run_id": runs[:4],
        "model": [ENGINE, HOSTED],
        "file_id": file_ids[:4],
        "upload_id": upload_ids[:4],
        "file": file_ids[:2],
        "training_file": file_ids[:2],
        "alias": ["spare-0"],
        "key": ["client"],
        "validation_file": file_ids[2:4],
    }
    spare = {
        "eval_id": evals,
        "run_id": runs,
        "model": [f"spare-{number}" for number in range(SPARES)],
        "file_id": file_ids[4:],
        "upload_id": upload_ids[4:],
        "key": [f"spare-{number}" for number in range(SPARES)],
    }
    return ids, spare


def _create_eval(database: Database) -> str:
    check = {"type": "string_check", "name": "c", "operation": "eq", "input": "{{item.a}}", "reference": "1"}
    config = {"type": "custom", "item_schema": {"type": "object"}}
    request = EvalCreate.model_validate({"data_source_config": config, "testing_criteria": [check]})
    return create_eval(database, request, Caller())["id"]


def _create_run(settings: Settings, database: Database, eval_id: str) -> str:
    source = {"type": "jsonl", "source": {"type": "file_content", "content": [{"item": {"a": "1"}}]}}
    request = RunCreate.model_validate({"data_source": source})
    return create_run(settings, database, eval_id, request, Caller())["id"]


def _create_job(url: str, key: str, training_file: str, number: int) -> str:
    """Creates a fine-tuning job, which stays queued because no worker runs; returns its id."""
    body = {"model": ENGINE, "training_file": training_file, "seed": number}
    request = urllib.request.Request(  # noqa: S310 -- our own gateway on loopback
        f"{url}/fine_tuning/jobs",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- as above
        return json.load(answer)["id"]
