"""Makes a database at schema 0004 with the release's own functions, on SQLite and PostgreSQL, for test_schema_0004.py.

The names imported below are those of 854a71a, the last release with that schema.

    git worktree add ../old 854a71a         # with an environment of its own in ../old/.venv
    cd ../old
    .venv/bin/python PATH/tests/upgrades/make_database.py PATH/tests/upgrades/854a71a

It writes sqlite.sql.xz and postgresql.sql.xz.
"""

import argparse
import asyncio
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.getcwd())  # the release's own modules and tests, wherever this file lies

from evals import cast_vote, next_battle
from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.lifecycle import add_model, create_campaign, open_campaign
from evals.votes.prompts import add_prompts
from models import jobs
from models.database import open_database, upgrade
from models.keys import KeyLimits, create_key, list_keys, revoke_key
from models.registry import Registry
from models.settings import load_settings
from models.spec import EngineOptions, ModelSpec, Upstream
from serve.fleet.engine_states import record_demand
from tests.evals.scripted import Scripted
from tests.serve.postgres import Postgres


def fill(home: Path, database_url: str | None) -> None:
    """A home with models, aliases, keys, demands, jobs, and campaigns with votes."""
    settings = load_settings(home=home, database_url=database_url)
    upgrade(settings)
    database = open_database(settings)
    registry = Registry(database)
    upstream = Upstream(base_url="https://api.example.com/v1", model="m", credential="EXAMPLE_API_KEY")
    engine = EngineOptions(max_model_len=4096, tensor_parallel_size=2, extra_args=("--swap-space", "4"))
    registry.register(ModelSpec(id="org/base", kind="base", path="org/base", engine=engine))
    registry.register(ModelSpec(id="lora", kind="adapter", path="org/lora", base="org/base"))
    for name in ("before", "after"):
        registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream))
    registry.register(ModelSpec(id="old", kind="hosted", upstream=upstream))
    registry.retire("old")
    registry.alias("production", "after")
    registry.alias("base", "org/base")
    registry.pin("org/base")
    record_demand(database, "org/base")
    create_key(database, name="boss", role="owner")
    create_key(database, name="shop", role="client", models=["production"], limits=KeyLimits(daily_tokens=1000))
    create_key(database, name="gone", role="client")
    revoke_key(database, next(key.id for key in list_keys(database) if key.name == "gone"))
    jobs.enqueue(database, "judge", {"judge": "after", "models": ["before", "after"]})
    add_prompts(database, [{"prompt": f"Question {number}?"} for number in range(4)], source="file")
    for name in ("before", "after"):
        add_model(database, "open", name)
    create_campaign(database, NewCampaign("draft", ["before", "after"], PromptSource(stored="all")), settings.runs_dir)
    create_campaign(database, NewCampaign("trial", ["before", "after"], PromptSource(stored="all")), settings.runs_dir)
    open_campaign(database, "trial")
    asyncio.run(vote(database))
    database.dispose()


async def vote(database) -> None:
    """Three votes of one person at /vote."""
    models = Scripted({"before": lambda question: f"No: {question}", "after": lambda question: f"Yes: {question}"})
    for _ in range(3):
        battle = await next_battle(database, "ann", models)
        cast_vote(database, battle.id, "ann", "left")


def write(path: Path, script: str) -> None:
    with lzma.open(path, "wt", encoding="utf-8", preset=9) as file:
        file.write(script)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name, Postgres() as postgres:
        fill(Path(name) / "sqlite", None)
        connection = sqlite3.connect(Path(name) / "sqlite" / "parley.db")
        write(out / "sqlite.sql.xz", "\n".join(connection.iterdump()))
        connection.close()
        url = postgres.new_database()
        fill(Path(name) / "postgresql", url)
        dump = shutil.which("pg_dump") or str(max(Path("/usr/lib/postgresql").glob("*/bin/pg_dump")))
        command = [dump, "--no-owner", "--no-acl", "--inserts", "--dbname", url]
        write(out / "postgresql.sql.xz", subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
