"""The database: durability settings, transactions, migrations up and down, and one-line errors."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from models.database import MIGRATIONS, Base, Database, alembic_config, open_database, upgrade, utcnow, wal_is_safe
from models.errors import Invalid, ParleyError, Unavailable
from models.settings.settings import Settings, load_settings
from models.tables import KeyRow


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_only_where_it_cannot_corrupt(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe


def test_sqlite_is_opened_durable(database: Database) -> None:
    with database.read() as session:
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA busy_timeout")) == 30_000
        expected = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "delete"
        assert session.scalar(text("PRAGMA journal_mode")) == expected


def test_a_write_is_atomic(any_database: Database) -> None:
    row = {"name": "n", "role": "client", "created": utcnow()}
    with pytest.raises(RuntimeError, match="stop"), any_database.write() as session:
        session.add(KeyRow(id="1", digest="1", **row))
        session.flush()
        raise RuntimeError("stop")
    with any_database.write() as session:
        assert session.get(KeyRow, "1") is None
        session.add(KeyRow(id="2", digest="2", **row))
    with any_database.read() as session:
        stored = session.get(KeyRow, "2")
    assert stored is not None
    assert stored.created == row["created"]
    assert stored.created.tzinfo is not None


def test_the_migrations_make_exactly_what_the_tables_say(any_database: Database) -> None:
    with any_database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_go_down_and_up_again(any_database: Database) -> None:
    with any_database.migration() as connection:
        command.downgrade(alembic_config(connection), "base")
    with any_database.connection() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
    with pytest.raises(Unavailable, match="parley db upgrade"):
        any_database.check_current()
    with any_database.migration() as connection:
        command.upgrade(alembic_config(connection), "head")
    any_database.check_current()


def test_a_migration_that_leaves_a_dangling_reference_is_undone(database: Database) -> None:
    with (
        pytest.raises(ParleyError, match="aliases refers to a missing row of models"),
        database.migration() as connection,
    ):
        connection.exec_driver_sql("INSERT INTO aliases (name, target) VALUES ('best', 'nobody')")
    with pytest.raises(IntegrityError), database.connection() as connection:  # the check is on again
        connection.exec_driver_sql("INSERT INTO aliases (name, target) VALUES ('best', 'nobody')")


def test_upgrading_twice_changes_nothing(settings: Settings) -> None:
    upgrade(settings)
    upgrade(settings)
    open_database(settings).check_current()


def test_an_empty_database_says_what_to_run(settings: Settings) -> None:
    with pytest.raises(Unavailable, match="parley db upgrade"):
        open_database(settings).check_current()


def test_a_wrong_address_is_one_line_without_the_password(home: Path) -> None:
    with pytest.raises(Invalid) as caught:
        open_database(load_settings(home=home, database_url="nonsense://me:hush@x/y"))
    assert "hush" not in str(caught.value)


def test_an_unreachable_server_is_one_line_without_the_password(home: Path) -> None:
    database = open_database(load_settings(home=home, database_url="postgresql://me:hush@127.0.0.1:9/name"))
    with pytest.raises(Unavailable) as caught, database.read() as session:
        session.scalar(text("SELECT 1"))
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="PARLEY_HOME"):
        open_database(load_settings(home=tmp_path / "file" / "home"))


def test_a_file_that_is_not_a_database_is_one_line(settings: Settings) -> None:
    settings.home.mkdir()
    (settings.home / "parley.db").write_text("not a database, but long enough to be looked at " * 40)
    with pytest.raises(Unavailable, match="not a database") as caught:
        open_database(settings).check_current()
    assert "\n" not in str(caught.value)


def test_every_schema_is_in_the_upgrade_guide() -> None:
    guide = (MIGRATIONS.parent / "docs" / "upgrading.md").read_text("utf-8")
    schemas = [path.name[:4] for path in sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))]
    assert schemas[-1] == "0010"
    assert [schema for schema in schemas if f"| {schema} |" not in guide] == []
