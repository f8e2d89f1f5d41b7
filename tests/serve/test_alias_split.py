"""An alias that is split between models: the shares, the same model for the same user, and which model answers."""

import json
from collections import Counter
from typing import Any

import pytest

from models.errors import Conflict, Invalid, NotFound
from models.keys import create_key
from models.registry.registry import Registry
from models.spec import ModelSpec
from serve.gateway.alias_split import alias_split
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_gateway import ask

WEIGHTS = {"a": 90.0, "b": 10.0}


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "support", "messages": [{"role": "user", "content": text}], **more}


def post(gateway: Serving, body: dict[str, object], key: str | None = None) -> tuple[int, Any, Any]:
    return ask(f"{gateway.base_url}/chat/completions", "POST", key, json.dumps(body).encode())


def test_users_are_split_by_weight_and_stay_with_their_model() -> None:
    split = alias_split("support", WEIGHTS)
    chosen = {f"user {number}": split.choose(chat("hi", user=f"user {number}")) for number in range(5000)}
    assert 0.085 < Counter(chosen.values())["b"] / 5000 < 0.115
    assert split.shares == {"a": 0.9, "b": 0.1}
    for user, model in list(chosen.items())[:50]:
        assert alias_split("support", dict(reversed(WEIGHTS.items()))).choose(chat("other", user=user)) == model
    # More weight for b moves users to b only.
    more = alias_split("support", {"a": 80.0, "b": 20.0})
    moved = [user for user, model in chosen.items() if more.choose(chat("hi", user=user)) != model]
    assert 0.08 < len(moved) / 5000 < 0.12
    assert {chosen[user] for user in moved} == {"a"}


def test_a_conversation_stays_with_its_model() -> None:
    split = alias_split("support", {"a": 1.0, "b": 1.0})
    for number in range(40):
        first = chat(f"question {number}")
        messages = [{"role": "system", "content": f"It is {number} o'clock."}, *first["messages"]]  # type: ignore[misc] -- plain dicts
        turns = [*messages, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And then?"}]
        responses = {"model": "support", "input": f"question {number}"}
        choices = {split.choose(body) for body in (first, {"messages": turns}, {"messages": messages}, responses)}
        assert len(choices) == 1
    assert {split.choose(chat(f"question {number}")) for number in range(40)} == {"a", "b"}


@pytest.mark.parametrize(
    "content", [{}, {"messages": []}, {"messages": "x"}, {"input": [1]}, {"user": 7, "prompt": [[1]]}]
)
def test_a_request_without_a_user_or_text_gets_a_model(content: dict[str, object]) -> None:
    assert alias_split("support", WEIGHTS).choose(content) in WEIGHTS


@pytest.mark.long
def test_the_answering_model_is_named_and_counted_and_needs_access(gateway: Serving, upstream: PacedUpstream) -> None:
    gateway.hosted("a", "b", base_url=f"{upstream.address}/v1", model="normal")
    gateway.registry.split_alias("support", {"a": 1, "b": 1})
    gateway.seen(lambda snapshot: "support" in snapshot.routes)
    models: dict[str, str] = {}
    for number in range(12):
        status, _, headers = post(gateway, chat("hi", user=str(number)))
        assert status == 200
        models[str(number)] = headers["x-parley-model"]
    assert set(models.values()) == {"a", "b"}
    text = gateway.app.metrics.text().decode()
    for model in ("a", "b"):
        count = list(models.values()).count(model)
        assert (
            f'parley_requests_total{{code="200",key="",model="{model}",route="/v1/chat/completions"}} {count}.0' in text
        )
    status, listed, _ = ask(f"{gateway.base_url}/models/support")
    assert (status, listed["parley"]["shares"]) == (200, {"a": 0.5, "b": 0.5})
    # A key for one of the models gets 404 for the others; a key for the alias can use both.
    secrets = {
        models: create_key(gateway.database, name=models, role="client", models=[models]) for models in ("a", "support")
    }
    gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    for user, model in models.items():
        body = chat("hi", user=user)
        assert post(gateway, body, secrets["support"])[0] == 200
        expected = 200 if model == "a" else 404
        assert post(gateway, body, secrets["a"])[0] == expected
    gateway.registry.alias("support", "b")
    gateway.seen(lambda snapshot: snapshot.routes["support"].split is None)
    assert gateway.registry.alias_weights() == {}


def test_the_registry_refuses_invalid_splits(any_database) -> None:
    registry = Registry(any_database)
    for name in ("a", "b"):
        registry.register(ModelSpec(id=name, kind="base", path=f"org/{name}"))
    for weights, message in (
        ({"a": 1}, "two or more models"),
        ({"a": 1, "b": 0}, "above 0"),
        ({"a": 1, "b": float("inf")}, "above 0"),
    ):
        with pytest.raises(Invalid, match=message):
            registry.split_alias("support", weights)
    with pytest.raises(NotFound):
        registry.split_alias("support", {"a": 1, "nobody": 1})
    registry.split_alias("support", {"a": 1, "b": 3})
    assert registry.aliases() == {"support": "b"}
    assert registry.resolve("support").id == "b"
    assert registry.alias_weights() == {"support": {"a": 1.0, "b": 3.0}}
    with pytest.raises(Conflict, match="The alias 'support' points to 'a'"):
        registry.retire("a")
    registry.alias("support", "b")
    registry.retire("a")
    with pytest.raises(Invalid, match="retired"):
        registry.split_alias("support", {"a": 1, "b": 3})
