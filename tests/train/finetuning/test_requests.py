"""train/finetuning/requests.py and names.py: every field's limits, and errors that name the field."""

from typing import Any

import pytest

from models.chat_templates import read_template
from models.errors import Invalid
from models.spec import is_valid_name
from train.finetuning.checkpoint_models import checkpoint_name
from train.finetuning.creation import clean_suffix, model_name
from train.finetuning.requests import parse

LEAST = {"model": "tiny", "training_file": "file-1"}


def method(kind: str = "supervised", **numbers: Any) -> dict[str, Any]:
    return {"method": {"type": kind, kind: {"hyperparameters": numbers}}}


@pytest.mark.parametrize(
    ("body", "numbers"),
    [
        ({}, {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}),
        ({"hyperparameters": {"n_epochs": 3}}, {"n_epochs": 3}),
        (method(n_epochs=2, batch_size="auto", learning_rate_multiplier=0.5), {"learning_rate_multiplier": 0.5}),
        (method("dpo", beta=0.2), {"beta": 0.2, "n_epochs": "auto"}),
        (method("dpo"), {"beta": "auto"}),
        ({"hyperparameters": {"n_epochs": 3}} | method(n_epochs=3), {"n_epochs": 3}),
        ({"method": {"type": "supervised"}}, {"n_epochs": "auto"}),
        ({"hyperparameters": None, "metadata": None, "suffix": None, "integrations": None, "method": None}, {}),
    ],
)
def test_hyperparameters_are_found_where_old_and_new_programs_put_them(body: Any, numbers: dict[str, Any]) -> None:
    request = parse(LEAST | body)
    assert {**request.hyperparameters, **numbers} == request.hyperparameters


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"training_file": 1}, "training_file"),
        ({"surprise": 1}, "surprise"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"suffix": ""}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: "x"}}, "metadata." + "k" * 65),
        ({"metadata": {"k": "x" * 513}}, "metadata.k"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": []}, "metadata"),
        ({"integrations": [{"type": "comet", "wandb": {"project": "p"}}]}, "integrations.0.type"),
        ({"integrations": [{"type": "wandb"}]}, "integrations.0.wandb"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "integrations.0.wandb.project"),
        ({"method": {}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        (method(beta=0.1), "method.supervised.hyperparameters.beta"),
        (method(n_epochs=0), "method.supervised.hyperparameters.n_epochs"),
        (method(n_epochs=2.5), "method.supervised.hyperparameters.n_epochs"),
        (method(n_epochs="3"), "method.supervised.hyperparameters.n_epochs"),
        (method(batch_size=0), "method.supervised.hyperparameters.batch_size"),
        (method(learning_rate_multiplier=0), "method.supervised.hyperparameters.learning_rate_multiplier"),
        (method("dpo", beta=2.1), "method.dpo.hyperparameters.beta"),
        ({"hyperparameters": {"n_epochs": 3}} | method(n_epochs=4), "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "all"}}, "hyperparameters.n_epochs"),
        ({"parley": {"surprise": 1}}, "parley.surprise"),
        ({"parley": {"fold_system": "yes"}}, "parley.fold_system"),
        ({"parley": {"chat_template": "/etc/passwd"}}, "parley.chat_template"),
        ({"parley": {"chat_template": "{% for message in messages %}"}}, "parley.chat_template"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(body: Any, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(LEAST | body)
    assert caught.value.param == param
    assert "pydantic" not in str(caught.value)


def test_parleys_extensions_are_kept_only_where_they_are_set() -> None:
    plain = parse(LEAST)
    assert dict(plain.parley) == dict(parse(LEAST | {"parley": {"fold_system": False}}).parley) == {}
    assert plain.digest() == parse(LEAST | {"parley": None}).digest()
    text = read_template("plain")
    chosen = parse(LEAST | {"parley": {"fold_system": True, "chat_template": "plain"}})
    assert dict(chosen.parley) == {"fold_system": True, "chat_template": text}
    assert parse(LEAST | {"parley": {"chat_template": text}}).parley["chat_template"] == text
    assert chosen.digest() != plain.digest()


@pytest.mark.parametrize("missing", LEAST)
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(Invalid, match=f"you must provide a {missing} parameter") as caught:
        parse({name: value for name, value in LEAST.items() if name != missing})
    assert caught.value.param == missing


def test_equal_requests_have_one_digest_whatever_their_order() -> None:
    first = parse(LEAST | {"suffix": "a", "seed": 1})
    assert first.digest() == parse({"seed": 1, "suffix": "a"} | LEAST).digest()
    assert first.digest() != parse(LEAST | {"suffix": "a", "seed": 2}).digest()


@pytest.mark.parametrize(
    ("base", "suffix", "begins"),
    [
        ("gpt-4o-mini", "support-v2", "ft:gpt-4o-mini:acme:support-v2:"),
        ("gpt-4o-mini", None, "ft:gpt-4o-mini:acme::"),
        ("Qwen/Qwen3-0.6B", "My model, v1.2", "ft:Qwen/Qwen3-0.6B:acme:My-model-v1.2:"),
        ("ft:gpt-4o-mini:acme:old:Ab12", "new", "ft:gpt-4o-mini:acme:new:"),
        ("tiny", "a:b//c..d", "ft:tiny:acme:a-b-c-d:"),
    ],
)
def test_a_result_is_called_as_openai_calls_it(base: str, suffix: str | None, begins: str) -> None:
    name = model_name(base, "acme", clean_suffix(suffix))
    assert name.startswith(begins)
    assert len(name) == len(begins) + 8
    assert is_valid_name(checkpoint_name(name, 120))
    assert checkpoint_name(name, 120).endswith(":ckpt-step-120")
    assert name != model_name(base, "acme", clean_suffix(suffix))


def test_a_name_that_can_be_none_is_refused() -> None:
    with pytest.raises(Invalid, match="no letter or digit"):
        clean_suffix("…")
    with pytest.raises(Invalid, match="is not a valid model name"):
        model_name("m" * 240, "acme", "")
