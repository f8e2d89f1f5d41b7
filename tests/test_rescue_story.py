"""A rescue on a running Parley: the old model at (a fake) OpenAI, the new one on a real engine, and a blind vote.

The client's program keeps the fine-tune's name from the first day to the last; only who answers to it changes.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from evals.campaigns.ballots import cast_vote
from models.chat.completer import gateway_completer
from models.database import open_database, upgrade
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import load_settings
from models.spec import ModelSpec
from tests.evals.battles import next_battle
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.stack import ROOT, Stack, stack
from tests.tiny_model import make_base
from tests.train.conftest import style_rows

pytestmark = [pytest.mark.engine, pytest.mark.training]


def test_from_openais_model_to_ones_own_by_a_blind_vote(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = load_settings(home=home)
    upgrade(settings)
    database = open_database(settings)
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(make_base(tmp_path / "tiny"))))
    database.dispose()
    with FakeOpenAI() as fake:
        rows = style_rows(80)
        file = fake.add_file("support.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
        old = fake.finished_job(file, suffix="support")
        reached = {"openai_api_key": fake.key, "openai_base_url": fake.base_url, "device": "cpu"}
        with stack(home, "up", **reached) as running:
            printed = rescued(running, old)
            assert f"{running.page_url}/vote/" in printed
            asyncio.run(voted_blind(running))
            client = OpenAI(base_url=running.gateway_url, api_key="no-key", max_retries=5)
            before = answer(client, old, rows[0])
            assert before == rows[0]["messages"][1]["content"]
            Registry(running.database).alias(old, "support-rescued")
            deadline = time.monotonic() + 30
            while answered_by(client, old, rows[0]) != "support-rescued":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            asked = fake.count("POST", "/v1/chat/completions")
            assert "on its way" in answer(client, old, rows[0])
            assert fake.count("POST", "/v1/chat/completions") == asked


def rescued(running: Stack, old: str) -> str:
    command = ["rescue", old, "--base", "tiny", "--threads", "2", "--epochs", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "parley", *command],
        env=child_environment(running.settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def voted_blind(running: Stack) -> None:
    completers: dict[str, Any] = {}

    def completer(model: str) -> Any:
        return completers.setdefault(model, gateway_completer(running.settings, model, retries=5))

    pair = ["support-openai", "support-rescued"]
    battle = await next_battle(running.database, "voter-1", completer, pair)
    assert battle.left.strip()
    assert battle.right.strip()
    assert not any(name in repr(battle) for name in (*pair, "ft:"))
    reveal = cast_vote(running.database, battle.id, "voter-1", "tie")
    assert {reveal.left_model, reveal.right_model} == set(pair)
    for one in completers.values():
        await one.close()


def answer(client: OpenAI, model: str, row: dict[str, Any]) -> str:
    given = client.chat.completions.create(model=model, messages=row["messages"][:1], temperature=0, max_tokens=40)
    return given.choices[0].message.content or ""


def answered_by(client: OpenAI, model: str, row: dict[str, Any]) -> str:
    given = client.chat.completions.with_raw_response.create(
        model=model, messages=row["messages"][:1], temperature=0, max_tokens=4
    )
    return given.parse().model
