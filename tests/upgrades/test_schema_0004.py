"""A database at schema 0004, made by the release 854a71a (make_database.py), upgraded to this version's schema."""

import json
import lzma
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy

from evals.campaigns.lifecycle import close_campaign, load_campaign, open_campaign
from models.audit import read_audit
from models.database import Database, open_database, upgrade
from models.errors import Unavailable
from models.keys import list_keys
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from serve.fleet.engine_states import read_demand, take_sleep_requests, unload_model
from tests.conftest import _new_postgres

RELEASE = Path(__file__).parent / "854a71a"


@pytest.fixture(params=["sqlite", "postgresql"])
def released(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[Settings, Database]]:
    """The release's database, not upgraded yet."""
    script = lzma.decompress((RELEASE / f"{request.param}.sql.xz").read_bytes()).decode()
    home.mkdir()
    if request.param == "sqlite":
        connection = sqlite3.connect(home / "parley.db")
        connection.executescript(script)
        connection.close()
        settings = load_settings(home=home)
    else:
        url = _new_postgres(request.getfixturevalue("postgres_server"))
        # Without what only psql or a newer server understands.
        lines = [line for line in script.splitlines() if not line.startswith(("\\", "SET transaction_timeout"))]
        with psycopg.connect(url) as connection:
            connection.execute("\n".join(lines).encode())
        settings = load_settings(home=home, database_url=url)
    database = open_database(settings)
    yield settings, database
    database.dispose()


def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    metadata = sqlalchemy.MetaData()
    with database.connection() as connection:
        metadata.reflect(connection)
        return {
            name: [
                json.loads(json.dumps(dict(row._mapping), default=str)) for row in connection.execute(table.select())
            ]
            for name, table in metadata.tables.items()
        }


@pytest.mark.long
def test_every_row_stays_and_what_is_new_is_empty(released: tuple[Settings, Database]) -> None:
    settings, database = released
    with pytest.raises(Unavailable, match="is at revision 0004; this Parley needs 0010"):
        database.check_current()
    before = rows(database)
    del before["alembic_version"]
    assert len(before["votes"]) == 3
    assert len(before["campaigns"]) == 3
    upgrade(settings)
    database.check_current()
    now = rows(database)
    for table, old in before.items():
        assert len(now[table]) == len(old)
        for row in old:
            assert any(row.items() <= new.items() for new in now[table]), (table, row)
    assert now["audit"] == []
    assert now["gateways"] == now["rate_buckets"] == []
    assert now["evals"] == now["eval_runs"] == now["eval_items"] == []
    assert now["stored_completions"] == now["feedback"] == now["batches"] == []
    assert {row["key_id"] for row in now["files"]} <= {""}
    assert {row["weights"] for row in now["aliases"]} == {None}
    assert {row["wanted"] for row in now["demands"]} == {"run"}


def test_models_aliases_keys_and_campaigns_go_on(released: tuple[Settings, Database]) -> None:
    settings, database = released
    upgrade(settings)
    registry = Registry(database)
    assert registry.aliases() == {"base": "org/base", "production": "after"}
    assert registry.alias_weights() == {}
    # An extra argument that would be refused today stays readable.
    assert registry.resolve("base").engine.extra_args == ("--swap-space", "4")
    assert registry.resolve("base").engine.gpus == 2
    assert registry.pinned() == {"org/base"}
    assert [(key.name, key.models) for key in list_keys(database)] == [
        ("boss", None), ("shop", ("production",)), ("gone", None),
    ]  # fmt: skip
    registry.split_alias("production", {"after": 9, "before": 1})
    assert open_campaign(database, "draft").state == "open"
    assert close_campaign(database, "trial").state == "closed"
    assert load_campaign(database, "open").models == ("before", "after")
    assert read_demand(database, timedelta(days=36_500)).keys() == {"org/base"}
    registry.unpin("org/base")
    unload_model(database, "base")
    assert take_sleep_requests(database) == {"org/base"}
    assert take_sleep_requests(database) == set()
    assert [entry.action for entry in read_audit(database)] == [
        "model.unload", "model.unpin", "campaign.close", "campaign.open", "alias.set",
    ]  # fmt: skip
