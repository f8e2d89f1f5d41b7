"""A fetch is complete and continues after anything; what cannot be fetched says why and stops nothing else."""

import errno
import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from models.openai_fetch.account import Account, Stop
from models.openai_fetch.client import Client
from models.openai_fetch.command import verify_folder
from models.openai_fetch.fetch import INVENTORY, Extent, Fetch
from models.openai_fetch.folder import Folder, hash_file, read_manifest, read_objects
from models.openai_fetch.progress import Progress
from tests.fakes.openai_account import FakeAccount
from tests.models.openai_fetch.accounts import TRAINING, fetched, manifest, states


def content_requests(fake: FakeAccount) -> int:
    return fake.count("GET", "/v1/files/[^/]+/content")


def test_everything_is_fetched_with_get_requests_alone_and_nothing_twice(fake: FakeAccount, tmp_path: Path) -> None:
    assert fetched(fake, tmp_path / "a") == []
    assert {request.method for request in fake.requests} == {"GET"}
    records = read_manifest(tmp_path / "a")
    for path, record in records.items():
        if record["state"] == "fetched":
            copy = tmp_path / "a" / path
            assert (hash_file(copy), copy.stat().st_size) == (record["sha256"], record["bytes"])
    kinds = {kind: sorted(states(tmp_path / "a", kind).values()) for kind in ("files", "completions", "output_items")}
    # The batch's output file and a training file are not at OpenAI any more.
    assert kinds == {
        "files": ["fetched"] * 5 + ["missing"] * 2, "completions": ["fetched"] * 12, "output_items": ["fetched"] * 2,
    }  # fmt: skip
    lists = {
        kind: len(list(read_objects(tmp_path / f"a/{kind}/{kind}.jsonl"))) for kind in ("jobs", "evals", "batches")
    }
    assert lists == {"jobs": 2, "evals": 2, "batches": 1}
    (training,) = [path for path in records if path.endswith("/train.jsonl")]
    assert (tmp_path / "a" / training).read_bytes() == TRAINING
    assert not [path for path in (tmp_path / "a").rglob("*") if path.suffix == ".part"]

    before, requests = manifest(tmp_path / "a"), content_requests(fake)
    assert fetched(fake, tmp_path / "a") == []
    assert (manifest(tmp_path / "a"), content_requests(fake)) == (before, requests)
    assert fake.count("GET", "/v1/chat/completions/.*/messages") == 12


def test_rate_limits_errors_and_broken_connections_are_repeated(fake: FakeAccount, tmp_path: Path) -> None:
    fetched(fake, tmp_path / "undisturbed")
    (training,) = [name for name, file in fake.files.items() if file["filename"] == "train.jsonl"]
    fake.fail("GET", "/v1/fine_tuning/jobs", 429, times=2, retry_after_ms="1")
    fake.fail("GET", "/v1/files", 500)
    fake.fail("GET", "/v1/evals", 503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")
    fake.cut("GET", "/v1/batches", after=False)
    fake.cut("GET", "/v1/chat/completions/chatcmpl-3/messages", after=True)
    fake.cut_bodies[f"/v1/files/{training}/content"] = 700
    assert fetched(fake, tmp_path / "disturbed") == []
    assert manifest(tmp_path / "disturbed") == manifest(tmp_path / "undisturbed")
    ranges = [one.headers["range"] for one in fake.requests if training in one.path and "range" in one.headers]
    assert ranges == ["bytes=700-"], "the rest is requested, not the whole content"


def test_a_partial_file_of_another_content_is_not_continued(fake: FakeAccount, tmp_path: Path) -> None:
    (training,) = [name for name, file in fake.files.items() if file["filename"] == "train.jsonl"]
    part = tmp_path / f"a/files/{training}/train.jsonl.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(TRAINING + b"more")
    assert fetched(fake, tmp_path / "a") == []
    assert part.with_suffix("").read_bytes() == TRAINING
    assert not part.exists()


@pytest.mark.parametrize(
    ("status", "pattern", "kind", "state"),
    [
        (403, "/v1/files", "lists", "forbidden"),
        (401, "/v1/chat/completions", "lists", "forbidden"),
        (404, "/v1/evals", "lists", "missing"),
        (403, "/v1/files/[^/]+/content", "files", "forbidden"),
        (400, "/v1/fine_tuning/jobs/[^/]+/events", "events", "failed"),
        (410, "/v1/fine_tuning/jobs/[^/]+/checkpoints", "checkpoints", "missing"),
    ],
)
def test_what_is_refused_stops_nothing_else(
    fake: FakeAccount, tmp_path: Path, status: int, pattern: str, kind: str, state: str
) -> None:
    fake.denied[pattern] = status
    problems = fetched(fake, tmp_path / "a")
    assert {problem["kind"] for problem in problems} == ({kind} if state != "missing" else set())
    assert state in states(tmp_path / "a", kind).values()
    assert "fetched" in states(tmp_path / "a", "runs" if kind != "lists" else "lists").values()
    refused = [record for record in read_manifest(tmp_path / "a").values() if record["state"] == state]
    assert all(str(status) in record["reason"] or "404" in record["reason"] for record in refused)
    fake.denied.clear()
    assert fetched(fake, tmp_path / "a") == []
    assert state == "missing" or state not in states(tmp_path / "a", kind).values()


def test_what_is_deleted_at_openai_stays_here(fake: FakeAccount, tmp_path: Path) -> None:
    fetched(fake, tmp_path / "a")
    before = manifest(tmp_path / "a")
    fake.jobs.clear()
    fake.files.clear()
    fake.completions.clear()
    fake.messages.clear()
    fetched(fake, tmp_path / "a")
    after = manifest(tmp_path / "a")
    assert {path for path, one in before.items() if one["state"] == "fetched"} <= {
        path for path, one in after.items() if one["state"] == "fetched"
    }
    assert len(list(read_objects(tmp_path / "a/completions/completions.jsonl"))) == 12
    assert verify_folder(tmp_path / "a") == []


def test_an_expired_file_is_too_old(empty: FakeAccount, tmp_path: Path) -> None:
    name = empty.add_file("old.jsonl", TRAINING)
    empty.files[name]["expires_at"] = 1
    empty.denied["/v1/files/[^/]+/content"] = 404
    fetched(empty, tmp_path / "a")
    assert states(tmp_path / "a", "files") == {name: "expired"}


def test_hostile_ids_and_names_stay_inside_the_folder(empty: FakeAccount, tmp_path: Path) -> None:
    names = [
        "../../../x.jsonl",
        "..\\..\\x.jsonl",
        "/etc/passwd.jsonl",
        ".jsonl",
        "a" * 300 + ".jsonl",
        "\x1b[2J\n.jsonl",
    ]
    for name in names:
        empty.add_file(name, TRAINING)
    listed = json.loads(json.dumps(list(empty.files.values())))
    for place, name in enumerate(("..", "../../up", "a/b", "files", "completions", "\ud800")):
        listed[place]["id"] = name
        empty.add_completion(name, "q", "a")
    empty.files = {file["id"]: file for file in listed}
    empty.contents = {file["id"]: TRAINING for file in listed}
    problems = fetched(empty, tmp_path / "deep/er/a", Extent(("files", "completions")))
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"er"}
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["a"]
    records = read_manifest(tmp_path / "deep/er/a")
    # An id with a slash, or that cannot be sent, is an address that this server has not; its reason is recorded.
    fetched_ids = {one["id"] for one in records.values() if one["state"] == "fetched" and one["kind"] == "files"}
    assert {"files", "completions"} <= fetched_ids
    assert len(problems) + sum(1 for one in records.values() if one["state"] == "fetched") >= 8


def test_damage_is_found_and_mended(fake: FakeAccount, tmp_path: Path) -> None:
    fetched(fake, tmp_path / "a")
    before = manifest(tmp_path / "a")
    (training,) = [path for path in before if path.endswith("/train.jsonl")]
    (tmp_path / "a" / training).write_bytes(TRAINING.replace(b"q1", b"q2"))
    (tmp_path / "a/completions/chatcmpl-3.jsonl").unlink()
    damaged = verify_folder(tmp_path / "a")
    assert damaged == [
        "completions/chatcmpl-3.jsonl: its file is gone", f"{training}: its checksum differs",
    ]  # fmt: skip
    assert fetched(fake, tmp_path / "a") == []
    assert manifest(tmp_path / "a") == before
    assert verify_folder(tmp_path / "a") == []


def test_an_empty_account_and_a_large_one(empty: FakeAccount, tmp_path: Path) -> None:
    assert fetched(empty, tmp_path / "empty") == []
    assert states(tmp_path / "empty", "lists") == dict.fromkeys(Extent().kinds, "fetched")
    empty.page = 100
    training = empty.add_file("train.jsonl", TRAINING)
    empty.finished_job(training)
    (job,) = empty.jobs.values()
    empty.jobs |= {
        name: replace(job, fields=job.fields | {"id": name}) for name in (f"ftjob-{number}" for number in range(2999))
    }
    assert fetched(empty, tmp_path / "large", Extent(("jobs",), ())) == []
    assert len(list(read_objects(tmp_path / "large/jobs/jobs.jsonl"))) == 3000


def test_an_inventory_fetches_lists_and_checkpoints_only(fake: FakeAccount, tmp_path: Path) -> None:
    assert fetched(fake, tmp_path / "a", INVENTORY) == []
    assert content_requests(fake) == 0
    assert set(states(tmp_path / "a", "checkpoints").values()) == {"fetched"}
    assert not states(tmp_path / "a", "events")


def test_a_list_that_has_no_end_is_a_failure(empty: FakeAccount, tmp_path: Path) -> None:
    empty.fail("GET", "/v1/batches", 200, {"data": [{"id": "b"}], "has_more": True}, times=9)
    empty.fail("GET", "/v1/evals", 200, {"data": "none"}, times=9)
    reasons = {problem["id"]: problem["reason"] for problem in fetched(empty, tmp_path / "a")}
    assert reasons == {
        "batches": "the list repeats itself, so it has no end",
        "evals": "the answer is not a list of objects with ids",
    }


def test_a_key_is_never_shown_or_stored_and_a_redirect_never_gets_it(fake: FakeAccount, tmp_path: Path) -> None:
    with FakeAccount() as other:
        fake.fail("GET", "/v1/batches", 400, {"error": {"message": f"{fake.key} may not"}}, times=9)
        fake.fail("GET", "/v1/evals", 302, {}, times=9, location=f"{other.base_url}/evals")
        problems = fetched(fake, tmp_path / "a")
        assert other.requests == []
    assert {problem["id"]: problem["reason"][:11] for problem in problems} == {
        "batches": "400 [key] m", "evals": "302 the ser",
    }  # fmt: skip
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or fake.key.encode() not in path.read_bytes(), path
    assert fake.key not in repr(Account(fake.key))
    with pytest.raises(Stop, match="refuses the key: Incorrect API key provided: sk-w"):
        fetched(fake, tmp_path / "b", key="sk-wrong")
    for key, word in (("", "There is no key"), ("sk-a\nb", "a space"), ("sk-ä", "not ASCII")):
        with pytest.raises(Stop, match=word) as stopped:
            Client(Account(key, fake.base_url), Progress(quiet=True))
        assert not key or key not in str(stopped.value)
    for address in ("ftp://x/v1", "https://me:secret@x/v1", "https://x/v1?a=b", "https://x:99999/v1", "x"):
        with pytest.raises(Stop, match="OPENAI_BASE_URL must be") as stopped:
            Client(Account("sk-a", address), Progress(quiet=True))
        assert "secret" not in str(stopped.value)


def test_a_dead_network_and_a_full_disk_stop_with_one_line(
    fake: FakeAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Account("sk-a", "http://127.0.0.1:9/v1"), Progress(quiet=True), attempts=1)
    with closing(Folder(tmp_path / "a")) as folder, pytest.raises(Stop, match=r"127\.0\.0\.1 does not answer"):
        Fetch(client, folder, Progress(quiet=True)).carry_out(Extent())
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="cannot be read or written: Not a directory"):
        Folder(tmp_path / "file/a")
    with closing(Folder(tmp_path / "b")), pytest.raises(Stop, match="Another fetch is writing"):
        Folder(tmp_path / "b")
    whole = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "train.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(Stop, match=r"The disk of .* is full\. Free some space, and run"):
            fetched(fake, tmp_path / "c")
    assert fetched(fake, tmp_path / "c") == []
