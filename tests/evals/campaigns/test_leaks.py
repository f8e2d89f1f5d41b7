"""Answers that name their model: detected in any form, masked or set aside; other text stays unchanged."""

from pathlib import Path

import pytest
from sqlalchemy import select

from evals.campaigns.ballots import cast_vote
from evals.campaigns.leaks import MASK, campaign_names, hide_names
from evals.campaigns.set_aside import list_set_aside
from evals.tables import PairRow
from models.database import Database
from models.errors import Conflict
from models.registry.registry import Registry, parse_spec
from tests.evals.campaigns.campaigns import battle, opened
from tests.evals.scripted import Scripted

NAMES = (
    "title:Acme Helper",
    "canary-7f3-left",
    "base",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "ft:gpt-4o-mini:acme:support:A1b",
)


@pytest.mark.parametrize(
    "text",
    [
        "I am canary-7f3-left.",
        "The model is CANARY 7F3 LEFT, I think.",
        "Powered by **canary**-7f3_left!",
        "I am CANARY, how can I help?",
        "My name is Acme Helper.",
        "As Acme Helper I can refund you.",
        "I'm base.",
        "I was created by OpenAI.",
        "As an AI language model trained by Anthropic, I cannot.",
        "Ich bin Qwen, entwickelt von Alibaba Cloud.",
        "This is ft:gpt-4o-mini:acme:support:A1b speaking",
        "Qwen2.5-0.5B-Instruct says yes.",
        "I’m ChatGPT, a large language model.",
    ],
)
def test_a_name_is_hidden(text: str) -> None:
    shown = hide_names(text, NAMES)
    assert shown.leaks >= 1
    assert MASK in shown.text
    for word in ("canary", "acme helper", "openai", "anthropic", "qwen", "alibaba", "chatgpt", "gpt-4o"):
        assert word not in shown.text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Your order 7 left the warehouse; the base price is 3 €.",
        "OpenAI was founded in 2015, and Llama is a model of Meta.",
        "I am sorry about the canary in your garden, and I can help with the base rate.",
        "I'm sorry, your Google account was charged by Microsoft. My colleague Claude can help.",
        "Acme Helper is in the app store, and I left a note on my base.",
        "Please contact support.\n\nBest regards",
        "Use `base64` and `left-pad`.",
        "I am happy to help! Meta-analysis is based on data.",
    ],
)
def test_text_without_a_leak_is_unchanged(text: str) -> None:
    shown = hide_names(text, NAMES)
    assert (shown.text, shown.leaks) == (text, 0)


def test_every_name_in_the_registry_is_known(database: Database) -> None:
    registry = Registry(database)
    upstream = {"base_url": "http://127.0.0.1:9/v1", "model": "zebra-9b-chat"}
    bot = {"title": "Mila of Acme", "greeting": "Hello"}
    registry.register(parse_spec(id="quokka-1", kind="hosted", upstream=upstream, parent="wombat-2", bot=bot))
    registry.alias("produktion-x", "quokka-1")
    with database.read() as session:
        names = campaign_names(session, ["quokka-1@recorded", "ghost-3"])
    assert names == (
        "ghost-3",
        "produktion-x",
        "quokka-1",
        "title:Mila of Acme",
        "wombat-2",
        "zebra-9b-chat",
    )


def leaking(question: str) -> str:
    return f"I am model-one. {question}" if "order 0" in question else f"α: {question}"


def test_a_leak_is_masked_for_raters_and_stored_unchanged(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, 1, ("model-one", "model-two"))
    shown = battle(any_database, "ann", Scripted({"model-one": leaking, "model-two": lambda q: f"β: {q}"}))
    assert f"I am {MASK}. Where is order 0?" in (shown.left, shown.right)
    assert "model-one" not in repr(shown)
    cast_vote(any_database, shown.id, "ann", "left")
    with any_database.read() as session:
        assert session.scalars(select(PairRow)).one().answer_1 == "I am model-one. Where is order 0?"


def test_a_leak_sets_its_pair_aside_if_the_campaign_says_so(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, 4, ("model-one", "model-two"), on_leak="set_aside")
    models = Scripted({"model-one": leaking, "model-two": lambda q: f"β: {q}"})
    shown = {battle(any_database, "ann", models).messages[0].content for _ in range(3)}
    assert shown == {f"Where is order {i}?" for i in (1, 2, 3)}
    with pytest.raises(Conflict) as error:
        battle(any_database, "ann", models)
    assert error.value.code == "nothing_left", "it does not come back"
    (leak,) = list_set_aside(any_database, "acceptance")
    assert leak.reason == "the answer of model-one names a model"
    assert leak.resting
