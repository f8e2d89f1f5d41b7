"""`parley keys` as typed: its output for people and for programs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from models.commands.keys import add_keys_commands
from models.database import Database, utcnow
from models.errors import Invalid
from models.keys import KeyLimits, check_key, find_key
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream
from models.usage import NO_KEY, Slot, Sums, add_usage

Run = Callable[..., str]


@pytest.fixture
def keys(database: Database, home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `parley keys …` over the test's home, with a model and an alias; returns its output."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "160")
    registry = Registry(database)
    there = Upstream(base_url="https://api.openai.com/v1", model="m")
    registry.register(ModelSpec(id="support", kind="hosted", upstream=there))
    registry.alias("bot", "support")
    app = typer.Typer()
    add_keys_commands(app)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["keys", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run


def listed(keys: Run) -> dict[str, dict[str, Any]]:
    return {key["name"]: key for key in json.loads(keys("list", "--json"))}


def test_a_key_is_created_with_scope_limits_and_expiry(keys: Run, database: Database) -> None:
    secret = keys(
        "create", "shop", "--models", "support, bot", "--requests-per-minute", "60", "--tokens-per-minute", "20000",
        "--daily-tokens", "2000000", "--daily-usd", "5", "--expires", "90d",
    ).strip()  # fmt: skip
    key = check_key(database, secret)
    assert key is not None
    assert (key.models, key.limits) == (("support", "bot"), KeyLimits(60, 20_000, 2_000_000, 5.0))
    assert key.expires is not None
    for shown in (keys("list"), keys("show", "shop"), keys("list", "--json"), keys("show", "shop", "--json")):
        assert secret not in shown
    assert listed(keys)["shop"]["limits"]["daily_usd"] == 5.0
    for words in ("60 requests/min", "20,000 tokens/min", "2,000,000 tokens/day", "$5.00/day", "support", key.id):
        assert words in keys("list")


def test_options_that_are_left_out_stay_unchanged(keys: Run, database: Database) -> None:
    keys("create", "shop", "--models", "bot", "--daily-tokens", "100", "--daily-usd", "2", "--expires", "2099-01-31")
    keys("set", "shop", "--daily-usd", "0", "--requests-per-minute", "7")
    key = find_key(database, "shop")
    assert (key.models, key.limits) == (("bot",), KeyLimits(7, None, 100, None))
    assert key.expires is not None
    printed = keys("set", "shop", "--models", "all", "--expires", "never")
    assert "all models; 7 requests/min, 100 tokens/day; in force" in printed
    assert find_key(database, "shop").expires is None
    with pytest.raises(Invalid, match="Say what"):
        keys("set", "shop")


def test_a_key_is_revoked_by_its_name(keys: Run, database: Database) -> None:
    secret = keys("create", "shop").strip()
    keys("revoke", "shop")
    assert check_key(database, secret) is None
    assert listed(keys)["shop"]["state"] == "revoked"


def test_usage_is_shown_by_key_and_model_and_in_json_by_day(keys: Run, database: Database) -> None:
    assert "No usage" in keys("usage")
    keys("create", "shop")
    shop, today = find_key(database, "shop").id, utcnow().date()
    add_usage(
        database,
        {
            Slot(today, shop, "support"): Sums(1_200, 3, 34_000, 5_600, 0.125),
            Slot(today.replace(year=2020), shop, "support"): Sums(1, 0, 1, 1),
            Slot(today, NO_KEY, "other"): Sums(1, 0, 10, 10),
        },
    )
    shown = keys("usage")
    for words in ("shop", "1,200", "34,000", "5,600", "0.1250", "(no key)", "other", "34,010"):
        assert words in shown
    rows = json.loads(keys("usage", "--key", "shop", "--since", "2020-01-01", "--json"))
    assert [row["requests"] for row in rows] == [1, 1_200]
    assert rows[1] | {"key_id": ""} == {
        "day": today.isoformat(), "key": "shop", "key_id": "", "model": "support", "requests": 1_200, "failed": 3,
        "prompt_tokens": 34_000, "completion_tokens": 5_600, "usd": 0.125,
    }  # fmt: skip
    assert json.loads(keys("usage", "--model", "other", "--json"))[0]["key"] == ""
    assert listed(keys)["shop"]["used_today"]["prompt_tokens"] == 34_000
    with pytest.raises(Invalid, match="--since"):
        keys("usage", "--since", "yesterday")


def test_a_narrow_terminal_does_not_truncate_names(keys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    keys("create", "shop", "--models", "support,bot", "--tokens-per-minute", "40000", "--expires", "90d")
    monkeypatch.setenv("COLUMNS", "60")
    printed = keys("list")
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 60
