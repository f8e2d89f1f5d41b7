"""A batch from creation to its result files, as the SDK sees it, and what is refused."""

from typing import Any

import openai
import pytest
from openai.types import Batch, FileObject

from tests.serve.batches.deployment import CHAT, BatchDeployment, content_of, row


def test_a_batch_runs_and_every_object_is_the_sdks(deployment: BatchDeployment) -> None:
    rows = [row(f"row-{number}", f"question {number}", max_tokens=5) for number in range(20)]
    created = deployment.create(rows, metadata={"team": "shop"})
    assert created.status == "validating"
    assert created.request_counts is not None
    assert created.request_counts.total == 0
    job = deployment.work()
    assert (job.kind, job.status) == ("batch", "succeeded")
    done = deployment.client.batches.retrieve(created.id)
    Batch.model_validate(done.model_dump(), strict=True)
    assert (done.status, done.errors, done.error_file_id, done.model) == ("completed", None, None, "one")
    assert done.metadata == {"team": "shop"}
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"completed": 20, "failed": 0, "total": 20}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (200, 80, 280)
    moments = [done.created_at, done.in_progress_at, done.finalizing_at, done.completed_at, done.expires_at]
    assert moments == sorted(moments)  # type: ignore[type-var] -- None would not be sorted
    lines = deployment.lines(done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"row-{number}" for number in range(20)]
    first = lines[0]
    assert (first["error"], first["response"]["status_code"]) == (None, 200)
    assert first["id"].startswith("batch_req_")
    assert first["response"]["request_id"].startswith("req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "one says: question 0"
    assert deployment.upstream.bodies[0]["max_tokens"] == 5
    assert all("priority" not in body for body in deployment.upstream.bodies)  # a hosted model does not know it
    file = deployment.client.files.retrieve(str(done.output_file_id))
    FileObject.model_validate(file.model_dump(), strict=True)
    assert (file.purpose, file.filename, file.expires_at) == ("batch_output", f"{done.id}_output.jsonl", None)
    assert not list(deployment.settings.batches_dir.iterdir())


def test_rows_that_fail_are_in_the_error_file(deployment: BatchDeployment) -> None:
    words = ["tell", "refuse this", "busy now", "starting up", "tell more"]
    batch = deployment.run([row(word.split()[0] + str(n), word) for n, word in enumerate(words)])
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"completed": 4, "failed": 1, "total": 5}
    assert [line["custom_id"] for line in deployment.lines(batch.output_file_id)] == [
        "tell0",
        "busy2",
        "starting3",
        "tell4",
    ]
    (bad,) = deployment.lines(batch.error_file_id)
    assert (bad["custom_id"], bad["error"], bad["response"]["status_code"]) == ("refuse1", None, 400)
    assert bad["response"]["body"]["error"]["message"] == "cannot: refuse"


def test_other_endpoints(deployment: BatchDeployment) -> None:
    rows = [row(str(n), url="/v1/embeddings", input="a" * n) for n in range(1, 4)]
    batch = deployment.run(rows, endpoint="/v1/embeddings")
    lines = deployment.lines(batch.output_file_id)
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


def test_each_bad_line_is_reported_with_its_number(deployment: BatchDeployment) -> None:
    batch = deployment.run([row("first"), "", *(line for line, _, _ in BAD)])
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.object == "list"
    found = [(error.line, error.code, error.param) for error in batch.errors.data or ()]
    assert found == [(line, code, param) for line, (_, code, param) in enumerate(BAD, 3)]
    assert deployment.upstream.asked == []


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
def test_a_whole_file_may_be_wrong(deployment: BatchDeployment, content: bytes, code: str) -> None:
    file = deployment.client.files.create(file=("a.jsonl", content), purpose="batch")
    batch = deployment.client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    deployment.work()
    batch = deployment.client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert batch.errors is not None
    errors = batch.errors.data or []
    assert errors[0].code == code
    assert len(errors) <= 101
    if len(errors) == 101:
        assert errors[-1].message == "200 more errors are not listed."


def test_too_many_rows(deployment: BatchDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.batches.input_file.MAX_ROWS", 3)
    batch = deployment.run([row(str(n)) for n in range(4)])
    assert batch.errors is not None
    assert [(error.code, error.line) for error in batch.errors.data or ()] == [("too_many_tasks", 4)]


def test_a_wrong_request_is_refused(deployment: BatchDeployment) -> None:
    file = deployment.client.files.create(file=("a.jsonl", content_of([row("a")])), purpose="batch")
    other = deployment.client.files.create(file=("a.jsonl", content_of([row("a")])), purpose="user_data")
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
            deployment.client.batches.create(**(right | wrong))
        assert refused.value.param == param
    for call in (deployment.client.batches.retrieve, deployment.client.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call("batch_nobody")
    with pytest.raises(openai.NotFoundError):
        list(deployment.client.batches.list(after="batch_nobody"))


def test_batches_are_listed_newest_first_in_pages(deployment: BatchDeployment) -> None:
    made = [deployment.create([row("a")]).id for _ in range(5)]
    assert [batch.id for batch in deployment.client.batches.list(limit=2)] == made[::-1]
    page = deployment.client.batches.list(limit=2)
    assert (page.has_more, [batch.id for batch in page.data]) == (True, made[:2:-1])


def test_a_repeated_request_creates_no_second_batch(deployment: BatchDeployment) -> None:
    first = deployment.create([row("a")])
    again = deployment.client.batches.create(
        input_file_id=first.input_file_id, endpoint=CHAT, completion_window="24h",
        extra_headers={"x-stainless-retry-count": "1"},
    )  # fmt: skip
    assert again.id == first.id


def test_results_may_expire(deployment: BatchDeployment) -> None:
    policy: Any = {"anchor": "created_at", "seconds": 3600}
    batch = deployment.run([row("a"), row("b", "refuse")], output_expires_after=policy)
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = deployment.client.files.retrieve(str(file_id))
        assert file.expires_at is not None
        assert file.expires_at - file.created_at == 3600
    source = deployment.client.files.retrieve(batch.input_file_id)
    assert source.expires_at is not None
    assert source.expires_at - source.created_at == 30 * 86400
