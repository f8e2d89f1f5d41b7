"""A batch from creation to its result files, as the SDK sees it; errors, cancellation, expiry, keys and prices."""

import json
import time
from datetime import timedelta
from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject
from sqlalchemy import select, update

from models.database import Database, utcnow
from models.jobs import jobs
from models.keys import KeyLimits, create_key, find_key, revoke_key
from models.spec import ModelSpec, Upstream
from models.usage import read_usage
from serve.tables import BatchRow
from tests.serve.batches.house import CHAT, BatchHouse, content_of, row, write_state


def change(database: Database, batch_id: str, **values: Any) -> None:
    with database.write() as session:
        session.execute(update(BatchRow).where(BatchRow.id == batch_id).values(**values))


def test_a_batch_runs_and_every_object_is_the_sdks(house: BatchHouse) -> None:
    rows = [row(f"row-{number}", f"question {number}", max_tokens=5) for number in range(20)]
    created = house.create(rows, metadata={"team": "shop"})
    assert created.status == "validating"
    assert created.request_counts is not None
    assert created.request_counts.total == 0
    job = house.work()
    assert (job.kind, job.status) == ("batch", "succeeded")
    done = house.client.batches.retrieve(created.id)
    Batch.model_validate(done.model_dump(), strict=True)
    assert (done.status, done.errors, done.error_file_id, done.model) == ("completed", None, None, "one")
    assert done.metadata == {"team": "shop"}
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"completed": 20, "failed": 0, "total": 20}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (200, 80, 280)
    moments = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at, done.expires_at]
    assert moments == sorted(moments)  # type: ignore[type-var] -- None would not be sorted
    lines = house.lines(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"row-{number}" for number in range(20)]
    first = lines[0]
    assert (first["error"], first["response"]["status_code"]) == (None, 200)
    assert first["id"].startswith("batch_req_")
    assert first["response"]["request_id"].startswith("req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "one says: question 0"
    assert house.upstream.bodies[0]["max_tokens"] == 5
    assert all("priority" not in body for body in house.upstream.bodies)  # a hosted model does not know it
    file = house.client.files.retrieve(str(done.output_file_id))
    FileObject.model_validate(file.model_dump(), strict=True)
    assert (file.purpose, file.filename, file.expires_at) == ("batch_output", f"{done.id}_output.jsonl", None)
    assert not list(house.settings.batches_dir.iterdir())


def test_rows_that_fail_are_in_the_error_file(house: BatchHouse) -> None:
    words = ["tell", "refuse this", "busy now", "starting up", "tell more"]
    batch = house.run([row(word.split()[0] + str(n), word) for n, word in enumerate(words)])
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"completed": 4, "failed": 1, "total": 5}
    assert [line["custom_id"] for line in house.lines(batch.output_file_id)] == ["tell0", "busy2", "starting3", "tell4"]
    (bad,) = house.lines(batch.error_file_id)
    assert (bad["custom_id"], bad["error"], bad["response"]["status_code"]) == ("refuse1", None, 400)
    assert bad["response"]["body"]["error"]["message"] == "cannot: refuse"


def test_other_endpoints(house: BatchHouse) -> None:
    rows = [row(str(n), url="/v1/embeddings", input="a" * n) for n in range(1, 4)]
    batch = house.run(rows, endpoint="/v1/embeddings")
    lines = house.lines(batch.output_file_id)
    assert [line["response"]["body"]["data"][0]["embedding"][0] for line in lines] == [1.0, 2.0, 3.0]
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (3, 0)


BAD = [
    ("not json", "invalid_json_line", None),
    ("[1]", "invalid_json_line", None),
    ("[" * 500 + "]" * 500, "invalid_json_line", None),
    ('{"custom_id": "\\ud800", "method": "POST"}', "invalid_json_line", None),
    ({"method": "POST", "url": CHAT, "body": {"model": "one"}}, "missing_required_parameter", "custom_id"),
    (row("a") | {"custom_id": 7}, "invalid_request", "custom_id"),
    (row("a") | {"custom_id": "x" * 513}, "invalid_request", "custom_id"),
    (row("a") | {"method": "GET"}, "invalid_method", "method"),
    (row("a") | {"url": "/v1/embeddings"}, "url_mismatch", "url"),
    (row("a") | {"url": ["/v1"]}, "url_mismatch", "url"),
    (row("a") | {"body": "text"}, "invalid_request", "body"),
    (row("a", model=None), "missing_required_parameter", "body.model"),
    (row("a", model="two"), "model_mismatch", "body.model"),
    (row("first"), "duplicate_custom_id", "custom_id"),
    (row("a", stream=True), "invalid_request", "body.stream"),
    (row("a", background=True), "invalid_request", "body.background"),
]


def test_each_bad_line_is_reported_with_its_number(house: BatchHouse) -> None:
    batch = house.run([row("first"), "", *(line for line, _, _ in BAD)])
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.object == "list"
    found = [(error.line, error.code, error.param) for error in batch.errors.data or ()]
    assert found == [(line, code, param) for line, (_, code, param) in enumerate(BAD, 3)]
    assert house.upstream.asked == []


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\n \n", "empty_batch"),
        (content_of([row("a", "x" * 9_000_000)]), "invalid_request"),
        (content_of([row("a", model="nobody")]), "model_not_found"),
        (b"\xff\xfe\n", "invalid_json_line"),
        (b'{"a":1}\n' * 300, "missing_required_parameter"),
    ],
)
def test_a_whole_file_may_be_wrong(house: BatchHouse, content: bytes, code: str) -> None:
    file = house.client.files.create(file=("a.jsonl", content), purpose="batch")
    batch = house.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    house.work()
    batch = house.client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    errors = batch.errors.data or []
    assert errors[0].code == code
    assert len(errors) <= 101
    if len(errors) == 101:
        assert errors[-1].message == "200 more errors are not listed."


def test_too_many_rows(house: BatchHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.batches.input_file.MAX_ROWS", 3)
    batch = house.run([row(str(n)) for n in range(4)])
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or ()] == [("too_many_tasks", 4)]


def test_a_wrong_request_is_refused(house: BatchHouse) -> None:
    file = house.client.files.create(file=("a.jsonl", content_of([row("a")])), purpose="batch")
    other = house.client.files.create(file=("a.jsonl", content_of([row("a")])), purpose="user_data")
    right: Any = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    for wrong, param in (
        ({"input_file_id": "file-x"}, "input_file_id"),
        ({"input_file_id": other.id}, "input_file_id"),
        ({"input_file_id": "../parley.db"}, "input_file_id"),
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": "b" * 600}}, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"extra_body": {"priority": -5}}, "priority"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            house.client.batches.create(**(right | wrong))
        assert refused.value.param == param
    for call in (house.client.batches.retrieve, house.client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call("batch_nobody")
    with pytest.raises(openai.NotFoundError):
        list(house.client.batches.list(after="batch_nobody"))


def test_batches_are_listed_newest_first_in_pages(house: BatchHouse) -> None:
    made = [house.create([row("a")]).id for _ in range(5)]
    assert [batch.id for batch in house.client.batches.list(limit=2)] == made[::-1]
    page = house.client.batches.list(limit=2)
    assert (page.has_more, [batch.id for batch in page.data]) == (True, made[:2:-1])


def test_a_repeated_request_creates_no_second_batch(house: BatchHouse) -> None:
    first = house.create([row("a")])
    again = house.client.batches.create(
        input_file_id=first.input_file_id, endpoint=CHAT, completion_window="24h",
        extra_headers={"x-stainless-retry-count": "1"},
    )  # fmt: skip
    assert again.id == first.id


def test_results_may_expire(house: BatchHouse) -> None:
    policy: Any = {"anchor": "created_at", "seconds": 3600}
    batch = house.run([row("a"), row("b", "refuse")], output_expires_after=policy)
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = house.client.files.retrieve(str(file_id))
        assert file.expires_at is not None
        assert file.expires_at - file.created_at == 3600
    source = house.client.files.retrieve(batch.input_file_id)
    assert source.expires_at is not None
    assert source.expires_at - source.created_at == 30 * 86400


def test_a_batch_that_waits_is_cancelled_at_once(house: BatchHouse) -> None:
    batch = house.client.batches.cancel(house.create([row("a")]).id)
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    assert batch.cancelled_at is not None
    assert jobs.claim(house.database, "worker", kinds=("batch",)) is None
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        house.client.batches.cancel(batch.id)


@pytest.mark.parametrize("by", ["batch", "job"])
def test_a_cancelled_batch_keeps_what_is_answered(house: BatchHouse, by: str) -> None:
    house.upstream.answers_at_most = 10
    batch = house.create([row(str(number), f"question {number}") for number in range(100)])
    with house.working():
        house.wait(batch.id, "in_progress")
        _until_answered(house, batch.id, 9)  # the first is sent alone, the others together
        if by == "batch":
            assert house.client.batches.cancel(batch.id).status == "cancelling"
        else:
            jobs.cancel(house.database, _job(house, batch.id))
        ended = house.wait(batch.id)
        while by == "job" and ended.output_file_id is None:
            ended = house.client.batches.retrieve(batch.id)
    assert ended.status == "cancelled"
    assert ended.request_counts is not None
    assert ended.request_counts.completed == 10
    done, left = house.lines(ended.output_file_id), house.lines(ended.error_file_id)
    assert len(done) == 10
    assert {line["error"]["code"] for line in left} == {"batch_cancelled"}
    assert sorted(int(line["custom_id"]) for line in (*done, *left)) == list(range(100))


def test_what_is_not_done_in_time_expires(house: BatchHouse) -> None:
    house.upstream.answers_at_most = 3
    batch = house.create([row(str(number), f"question {number}") for number in range(8)])
    change(house.database, batch.id, expires=utcnow() + timedelta(seconds=2))
    house.work()
    ended = house.client.batches.retrieve(batch.id)
    assert ended.status == "expired"
    assert ended.expired_at is not None
    done, left = house.lines(ended.output_file_id), house.lines(ended.error_file_id)
    assert (len(done), len(left)) == (3, 5)
    assert {line["error"]["code"] for line in left} == {"batch_expired"}


def test_the_input_may_be_deleted_once_the_batch_runs(house: BatchHouse) -> None:
    deleted = house.create([row("a")])
    house.client.files.delete(deleted.input_file_id)
    house.work()
    batch = house.client.batches.retrieve(deleted.id)
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or ()] == ["file_not_found"]
    house.upstream.answers_at_most = 0
    batch = house.create([row("a")])
    with house.working() as stop:
        house.wait(batch.id, "in_progress")
        house.client.files.delete(batch.input_file_id)
        stop.set()
    house.upstream.answers_at_most = None
    house.work()
    assert house.client.batches.retrieve(batch.id).status == "completed"


def test_a_stopped_worker_goes_on_without_a_lost_or_doubled_row(house: BatchHouse) -> None:
    house.upstream.answers_at_most = 30
    batch = house.create([row(str(number), f"question {number}") for number in range(200)])
    with house.working() as stop:
        _until_answered(house, batch.id, 29)
        stop.set()
    assert house.client.batches.retrieve(batch.id).status == "in_progress"
    asked = {question for _, question in house.upstream.asked}
    house.upstream.answers_at_most = None
    before = len(house.upstream.asked)
    house.work()
    done = house.client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert [line["custom_id"] for line in house.lines(done.output_file_id)] == [str(n) for n in range(200)]
    assert len(house.upstream.asked) - before == 200 - 30
    assert len(asked) <= 200


def test_a_client_sees_its_own_files_and_batches(house: BatchHouse) -> None:
    keys = {name: create_key(house.database, name=name, role=role) for name, role in
            (("boss", "owner"), ("shop", "client"), ("desk", "client"))}  # fmt: skip
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 3)
    boss, shop, desk = (house.as_key(key) for key in keys.values())
    batch = house.run([row("a"), row("b")], client=shop)
    assert batch.status == "completed"
    assert len(house.lines(batch.output_file_id, shop)) == 2
    assert [each.id for each in shop.batches.list()] == [each.id for each in boss.batches.list()] == [batch.id]
    assert list(desk.batches.list()) == list(desk.files.list()) == []
    assert {each.id for each in shop.files.list()} == {batch.input_file_id, batch.output_file_id}
    for call in (
        lambda: desk.batches.retrieve(batch.id),
        lambda: desk.batches.cancel(batch.id),
        lambda: desk.files.content(str(batch.output_file_id)),
        lambda: desk.files.delete(batch.input_file_id),
        lambda: desk.files.retrieve(batch.input_file_id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    with pytest.raises(openai.BadRequestError):
        desk.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.PermissionDeniedError, match="purpose batch"):
        shop.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    assert boss.files.content(str(batch.output_file_id)).text
    used = {use.key: use.sums.requests for use in read_usage(house.database)} if _flushed(house, "shop") else {}
    assert used == {"shop": 2}


def test_a_clients_files_are_limited(house: BatchHouse) -> None:
    limited = house.settings.model_copy(update={"client_files_mib": 0.001})
    object.__setattr__(house.settings, "client_files_mib", limited.client_files_mib)
    shop = house.as_key(create_key(house.database, name="shop", role="client"))
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    shop.files.create(file=("a.jsonl", b"x" * 1000), purpose="batch")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        shop.files.create(file=("a.jsonl", b"y" * 1000), purpose="batch")
    assert refused.value.code == "file_quota_exceeded"


def test_rows_are_billed_to_the_batchs_key_at_the_batch_price(house: BatchHouse) -> None:
    upstream = Upstream(
        base_url=house.upstream.address, model="paid", usd_per_million_input=1.0, usd_per_million_output=2.0
    )
    house.gateway.registry.register(ModelSpec(id="paid", kind="hosted", upstream=upstream))
    limits = KeyLimits(requests_per_minute=1, daily_usd=1.0)
    shop = house.as_key(create_key(house.database, name="shop", role="client", models=["paid"], limits=limits))
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 1 and "paid" in snapshot.routes)
    batch = house.run([row(str(n), "two words", model="paid") for n in range(5)], client=shop)
    assert batch.status == "completed"  # the limits per minute do not apply
    shop.chat.completions.create(model="paid", messages=[{"role": "user", "content": "two words"}])
    assert _flushed(house, "shop", 6)
    (use,) = read_usage(house.database)
    full = (10 * 1.0 + 4 * 2.0) / 1e6
    assert use.sums.usd == pytest.approx(5 * full / 2 + full)
    other = house.run([row("a")], client=shop)
    assert other.errors is not None
    assert [error.code for error in other.errors.data or ()] == ["model_not_found"]


def test_a_revoked_keys_batch_ends(house: BatchHouse) -> None:
    key = create_key(house.database, name="shop", role="client")
    create_key(house.database, name="boss", role="owner")
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    batch = house.create([row(str(n), f"question {n}") for n in range(3)], client=house.as_key(key))
    revoke_key(house.database, find_key(house.database, "shop").id)
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    house.work()
    with house.database.read() as session:
        ended = session.scalars(select(BatchRow).where(BatchRow.id == batch.id)).one()
    assert ended.status == "failed"
    assert ended.outcome["errors"][0]["code"] == "invalid_api_key"
    assert house.upstream.asked == []


def test_a_token_that_a_client_made_up_is_refused(house: BatchHouse) -> None:
    create_key(house.database, name="boss", role="owner")
    house.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    later = int(time.time()) + 9999
    for secret in (
        "pb-",
        "pb-a.b.c.d",
        f"pb-batch_1..{later}." + "0" * 64,
        f"pb-batch_1..{later}",
        "pb-...",
        "pb-. . .",
    ):
        with pytest.raises(openai.AuthenticationError):
            house.as_key(secret).models.list()


def test_a_gateway_that_restarts_is_waited_for(house: BatchHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.batches.row_requests._FIRST_DELAY_S", 0.01)
    batch = house.create([row(str(n), f"question {n}") for n in range(3)])
    write_state(house.settings, "http://127.0.0.1:1/v1")
    with house.working():
        deadline = time.monotonic() + 30
        while "cannot be reached" not in jobs.get_job(house.database, _job(house, batch.id)).message:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert house.client.batches.retrieve(batch.id).status == "validating"
        write_state(house.settings, house.gateway.base_url)
        assert house.wait(batch.id).status == "completed"


def _job(house: BatchHouse, batch_id: str) -> str:
    with house.database.read() as session:
        return session.scalars(select(BatchRow.job).where(BatchRow.id == batch_id)).one()


def _until_answered(house: BatchHouse, batch_id: str, count: int) -> None:
    """Waits until more than that many answers are in the journal."""
    path = house.settings.batches_dir / batch_id / "answers.jsonl.partial"
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") <= count + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert json.loads(path.read_bytes().splitlines()[1])["line"]["response"]


def _flushed(house: BatchHouse, key: str, requests: int = 2) -> bool:
    deadline = time.monotonic() + 10
    while not any(use.key == key and use.sums.requests == requests for use in read_usage(house.database)):
        assert time.monotonic() < deadline, read_usage(house.database)
        time.sleep(0.02)
    return True
