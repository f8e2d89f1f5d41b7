"""A filled fake account, and no waits before repetitions."""

from collections.abc import Iterator

import pytest

import models.openai_fetch.client
from tests.fakes.openai_account import FakeAccount
from tests.models.openai_fetch.accounts import fill


@pytest.fixture
def empty() -> Iterator[FakeAccount]:
    with FakeAccount(page=5, tick=0.005) as fake:
        yield fake


@pytest.fixture
def fake(empty: FakeAccount) -> FakeAccount:
    fill(empty)
    return empty


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.openai_fetch.client.random, "uniform", lambda least, most: 0.0)
