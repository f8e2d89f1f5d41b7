"""Both clouds as fakes on real sockets, a home, and data for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.fakes.together_fine_tuning import FakeTogether
from tests.train.conftest import style_rows

OPENAI_BASE = "gpt-4o-mini-2024-07-18"
TOGETHER_BASE = "Qwen/Qwen3-8B"


@pytest.fixture
def openai_fake() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(page=5, tick=0.005) as fake:
        yield fake


@pytest.fixture
def together_fake() -> Iterator[FakeTogether]:
    with FakeTogether(tick=0.005) as fake:
        yield fake


@pytest.fixture
def account(home: Path, openai_fake: FakeOpenAI, together_fake: FakeTogether) -> Settings:
    """Settings with keys for both."""
    return load_settings(
        home=home,
        openai_api_key=openai_fake.key,
        openai_base_url=openai_fake.base_url,
        together_api_key=together_fake.key,
        together_base_url=together_fake.base_url,
    )


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty conversations in a file, and one line that is broken."""
    return write(tmp_path / "support.jsonl", [*style_rows(40), {"messages": "none"}])


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path
