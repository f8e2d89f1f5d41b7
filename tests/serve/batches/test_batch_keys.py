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
from tests.serve.batches.house import CHAT, BatchHouse, row


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


def test_only_rows_of_batches_have_a_priority_at_an_engine(house: BatchHouse, tmp_path: Path) -> None:
    house.gateway.engine("local", tmp_path / "weights", house.upstream.address.removesuffix("/v1"))
    messages: Any = [{"role": "user", "content": "hello"}]
    house.client.chat.completions.create(model="local", messages=messages)
    assert house.run([row("a", model="local")]).status == "completed"
    assert [body.get("priority") for body in house.upstream.bodies] == [None, 1]
    with pytest.raises(openai.BadRequestError, match="the server decides the order of requests"):
        house.client.chat.completions.create(model="local", messages=messages, extra_body={"priority": -1})


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


def _flushed(house: BatchHouse, key: str, requests: int = 2) -> bool:
    deadline = time.monotonic() + 10
    while not any(use.key == key and use.sums.requests == requests for use in read_usage(house.database)):
        assert time.monotonic() < deadline, read_usage(house.database)
        time.sleep(0.02)
    return True
