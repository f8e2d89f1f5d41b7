"""A fake account with something of each kind, and fetches of it."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from models.openai_fetch.account import Account
from models.openai_fetch.client import Client
from models.openai_fetch.fetch import Extent, Fetch
from models.openai_fetch.folder import Folder, read_manifest
from models.openai_fetch.progress import Progress
from tests.fakes.openai_account import FakeAccount

ROWS = [{"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]} for i in range(12)]
TRAINING = "\n".join(map(json.dumps, ROWS)).encode()
WHOLE = Extent()


def fill(fake: FakeAccount) -> str:
    """Two fine-tunes, one of them without its training file, 12 completions, two evals and a batch; the first model."""
    training, validation = fake.add_file("train.jsonl", TRAINING), fake.add_file("valid.jsonl", TRAINING)
    model = fake.finished_job(training, suffix="support", validation_file=validation)
    gone = fake.add_file("gone.jsonl", TRAINING)
    fake.finished_job(gone, suffix="old", base="gpt-4.1-2025-04-14")
    del fake.files[gone]
    for number in range(12):
        fake.add_completion(f"chatcmpl-{number}", f"question {number}", f"answer {number}")
    fake.add_eval(1, fake.add_file("items.jsonl", b'{"item": {"answer": "yes"}}\n', "evals"))
    fake.add_eval(2)
    fake.add_batch(1, training, "file-unlisted")
    return model


def fetched(fake: FakeAccount, path: Path, extent: Extent = WHOLE, key: str | None = None) -> list[dict[str, Any]]:
    """Fetches; returns the problems."""
    progress = Progress(quiet=True)
    client = Client(Account(key or fake.key, fake.base_url), progress, attempts=3)
    with closing(Folder(path)) as folder:
        Fetch(client, folder, progress).carry_out(extent)
        return folder.problems


def manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The records without their times."""
    return {
        name: {field: value for field, value in record.items() if field != "time"}
        for name, record in read_manifest(path).items()
    }


def states(path: Path, kind: str) -> dict[str, str]:
    """Id → state of the records of a kind."""
    return {record["id"]: record["state"] for record in read_manifest(path).values() if record["kind"] == kind}
