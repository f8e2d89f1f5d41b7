"""Names of other providers' models that the setting fine_tuning_models maps to local ones, in chat and in lists."""

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from models.database import Database
from models.errors import NotFound
from models.keys import create_key
from models.registry.mapped_models import find_mapped_model
from models.settings.settings import Settings
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_gateway import ask

HELLO: list = [{"role": "user", "content": "hello"}]
NAMES = {"gpt-4o-mini": "tuned", "gpt-4o": "support", "gpt-4.1-2025-04-14": "gone", "hosted": "tuned"}


@pytest.fixture
def gateway(settings: Settings, database: Database, tmp_path: Path, upstream: PacedUpstream) -> Iterator[Serving]:
    """A gateway with two local models, an alias of one, and a hosted model whose name is mapped too."""
    with serving(settings.model_copy(update={"fine_tuning_models": NAMES}), database) as running:
        for name in ("tuned", "judge"):
            running.engine(name, tmp_path / name, upstream.address)
        running.registry.alias("support", "judge")
        running.hosted("hosted", base_url=f"{upstream.address}/v1", model="whole")
        # The name hosted is mapped until the model that has it is known.
        running.seen(lambda snapshot: "gpt-4o" in snapshot.routes and snapshot.routes["hosted"].spec.id == "hosted")
        yield running


def answering(gateway: Serving, model: str, key: str | None = None) -> str:
    """The id of the model that answers a request for `model`; the code of the error if none does."""
    body = json.dumps({"model": model, "messages": HELLO}).encode()
    status, content, headers = ask(f"{gateway.base_url}/chat/completions", "POST", key, body)
    return headers["x-parley-model"] if status == 200 else content["error"]["code"]


def test_a_mapped_name_answers_and_is_listed_unless_a_model_has_it(gateway: Serving, upstream: PacedUpstream) -> None:
    answers = {
        "gpt-4o-mini": "tuned", "gpt-4o-mini-2024-07-18": "tuned", "gpt-4o": "judge", "gpt-4o-2024-08-06": "judge",
        "hosted": "hosted", "gpt-4.1-2025-04-14": "model_not_found", "gpt-5": "model_not_found",
    }  # fmt: skip
    assert {name: answering(gateway, name) for name in answers} == answers
    assert [sent["model"] for sent in upstream.seen.requests] == ["tuned", "tuned", "judge", "judge", "whole"]
    with openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
        listed = {model.id: model for model in client.models.list()}
        assert listed.keys() == {"tuned", "judge", "hosted", "support", "gpt-4o-mini", "gpt-4o"}
        for name, target in (("gpt-4o-mini", "tuned"), ("gpt-4o", "judge"), ("gpt-4o-2024-08-06", "judge")):
            shown = client.models.retrieve(name)
            assert (shown.id, shown.parley["alias_of"]) == (name, target)  # type: ignore[attr-defined] -- our own field
        with pytest.raises(openai.ConflictError, match="is a name of the setting fine_tuning_models"):
            client.models.delete("gpt-4o-mini")
    # Usage and metrics are the local model's, as for an alias.
    counted = gateway.app.metrics.text().decode()
    assert 'model="tuned",route="/v1/chat/completions"} 2.0' in counted
    assert 'model="gpt-4o' not in counted


def test_a_key_for_the_local_model_may_use_the_name(gateway: Serving) -> None:
    secret = create_key(gateway.database, name="shop", role="client", models=["tuned"])
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    assert answering(gateway, "gpt-4o-mini-2024-07-18", secret) == "tuned"
    assert answering(gateway, "gpt-4o", secret) == "model_not_found"
    _, content, _ = ask(f"{gateway.base_url}/models", "GET", secret)
    assert [model["id"] for model in content["data"]] == ["tuned", "gpt-4o-mini"]


def test_a_family_covers_its_dates_unless_two_entries_differ() -> None:
    names = {"gpt-4o-mini": "a", "gpt-4o-2024-08-06": "b", "gpt-4o-2024-11-20": "c", "gpt-3.5-turbo-1106": "d"}
    expected = {
        "gpt-4o-mini": "a", "gpt-4o-mini-2024-07-18": "a", "gpt-4o": None, "gpt-4o-2024-08-06": "b",
        "gpt-4o-2024-05-13": None, "gpt-3.5-turbo": "d", "gpt-4o-mini-audio": None,
    }  # fmt: skip
    assert {name: find_mapped_model(names, name) for name in expected} == expected


def test_a_judge_can_be_named_by_a_mapped_name(gateway: Serving) -> None:
    from evals.served_models import resolve_models

    names = ("gpt-4o", "tuned", "hosted", "gpt-4o-mini")
    specs = resolve_models(gateway.settings, gateway.database, *names)
    assert [spec.id for spec in specs] == ["judge", "tuned", "hosted", "tuned"]
    with pytest.raises(NotFound, match="gpt-5"):
        resolve_models(gateway.settings, gateway.database, "gpt-5")
