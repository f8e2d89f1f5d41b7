"""Whose batches and files a key sees, how rows are billed, and the token with which the worker sends them."""

import time
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import select

from models.keys import KeyLimits, create_key, find_key, revoke_key
from models.spec import ModelSpec, Upstream
from models.usage import read_usage
from serve.tables import BatchRow
from tests.serve.batches.deployment import CHAT, BatchDeployment, row


def test_a_client_sees_its_own_files_and_batches(deployment: BatchDeployment) -> None:
    keys = {name: create_key(deployment.database, name=name, role=role) for name, role in
            (("boss", "owner"), ("shop", "client"), ("desk", "client"))}  # fmt: skip
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 3)
    boss, shop, desk = (deployment.as_key(key) for key in keys.values())
    batch = deployment.run([row("a"), row("b")], client=shop)
    assert batch.status == "completed"
    assert len(deployment.lines(batch.output_file_id, shop)) == 2
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
    used = (
        {use.key: use.sums.requests for use in read_usage(deployment.database)} if _flushed(deployment, "shop") else {}
    )
    assert used == {"shop": 2}


def test_a_clients_files_are_limited(deployment: BatchDeployment) -> None:
    limited = deployment.settings.model_copy(update={"client_files_mib": 0.001})
    object.__setattr__(deployment.settings, "client_files_mib", limited.client_files_mib)
    shop = deployment.as_key(create_key(deployment.database, name="shop", role="client"))
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    shop.files.create(file=("a.jsonl", b"x" * 1000), purpose="batch")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        shop.files.create(file=("a.jsonl", b"y" * 1000), purpose="batch")
    assert refused.value.code == "file_quota_exceeded"


def test_rows_are_billed_to_the_batchs_key_at_the_batch_price(deployment: BatchDeployment) -> None:
    upstream = Upstream(
        base_url=deployment.upstream.address, model="paid", usd_per_million_input=1.0, usd_per_million_output=2.0
    )
    deployment.gateway.registry.register(ModelSpec(id="paid", kind="hosted", upstream=upstream))
    limits = KeyLimits(requests_per_minute=1, daily_usd=1.0)
    shop = deployment.as_key(
        create_key(deployment.database, name="shop", role="client", models=["paid"], limits=limits)
    )
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 1 and "paid" in snapshot.routes)
    batch = deployment.run([row(str(n), "two words", model="paid") for n in range(5)], client=shop)
    assert batch.status == "completed"  # the limits per minute do not apply
    shop.chat.completions.create(model="paid", messages=[{"role": "user", "content": "two words"}])
    assert _flushed(deployment, "shop", 6)
    (use,) = read_usage(deployment.database)
    full = (10 * 1.0 + 4 * 2.0) / 1e6
    assert use.sums.usd == pytest.approx(5 * full / 2 + full)
    other = deployment.run([row("a")], client=shop)
    assert other.errors is not None
    assert [error.code for error in other.errors.data or ()] == ["model_not_found"]


def test_only_rows_of_batches_have_a_priority_at_an_engine(deployment: BatchDeployment, tmp_path: Path) -> None:
    deployment.gateway.engine("local", tmp_path / "weights", deployment.upstream.address.removesuffix("/v1"))
    messages: Any = [{"role": "user", "content": "hello"}]
    deployment.client.chat.completions.create(model="local", messages=messages)
    assert deployment.run([row("a", model="local")]).status == "completed"
    assert [body.get("priority") for body in deployment.upstream.bodies] == [None, 1]
    with pytest.raises(openai.BadRequestError, match="the server decides the order of requests"):
        deployment.client.chat.completions.create(model="local", messages=messages, extra_body={"priority": -1})


def test_a_revoked_keys_batch_ends(deployment: BatchDeployment) -> None:
    key = create_key(deployment.database, name="shop", role="client")
    create_key(deployment.database, name="boss", role="owner")
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    batch = deployment.create([row(str(n), f"question {n}") for n in range(3)], client=deployment.as_key(key))
    revoke_key(deployment.database, find_key(deployment.database, "shop").id)
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    deployment.work()
    with deployment.database.read() as session:
        ended = session.scalars(select(BatchRow).where(BatchRow.id == batch.id)).one()
    assert ended.status == "failed"
    assert ended.outcome["errors"][0]["code"] == "invalid_api_key"
    assert deployment.upstream.asked == []


def test_a_token_that_a_client_made_up_is_refused(deployment: BatchDeployment) -> None:
    create_key(deployment.database, name="boss", role="owner")
    deployment.gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
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
            deployment.as_key(secret).models.list()


def _flushed(deployment: BatchDeployment, key: str, requests: int = 2) -> bool:
    deadline = time.monotonic() + 10
    while not any(use.key == key and use.sums.requests == requests for use in read_usage(deployment.database)):
        assert time.monotonic() < deadline, read_usage(deployment.database)
        time.sleep(0.02)
    return True
