"""Shared by this room's tests: a tiny base, conversations with a clear style, and one real training run on them."""

import random
from pathlib import Path
from typing import Any

import pytest

from models.database import open_database, upgrade
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec


def style_rows(number: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations whose answers are easily learnt: the same words after any question."""
    chance = random.Random(seed)
    return [
        {
            "messages": [
                {"role": "user", "content": f"where is order {chance.randint(1000, 9999)}?"},
                {"role": "assistant", "content": "It is on its way. " * chance.randint(1, 4) + "Bye!"},
            ]
        }
        for _ in range(number)
    ]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of Qwen2's shape with a chat template that has no generation marks."""
    from tests.tiny_model import make_base

    return make_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def tokenizer(tiny_base: Path) -> Any:
    """Its tokenizer, loaded anew because tests change its template."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tiny_base))


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Settings, Registry]:
    """A home with the tiny base registered as `tiny`; shared by the slow tests, which only add to it."""
    settings = load_settings(home=tmp_path_factory.mktemp("house"), device="cpu")
    upgrade(settings)
    registry = Registry(open_database(settings))
    registry.register(ModelSpec(id="tiny", kind="base", path=str(tiny_base)))
    return settings, registry


@pytest.fixture(scope="session")
def trained(house: tuple[Settings, Registry]) -> Any:
    """One real run: 120 conversations, published as the adapter `styled`, with all its events."""
    from train import Hyperparameters, train

    settings, registry = house
    events: list[Any] = []
    result = train(
        style_rows(120),
        base="tiny",
        name="styled",
        settings=settings,
        registry=registry,
        hyperparameters=Hyperparameters(epochs=2, rank=8),
        progress=events.append,
        threads=2,
    )
    return result, events
