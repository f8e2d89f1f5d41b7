"""A command in a new home creates the database; one that fails there leaves nothing behind."""

import fcntl
import os
from pathlib import Path

import pytest

from models.database import Database, open_database
from models.errors import NotFound, Unavailable
from models.home.new_home import create_tables, removed_if_unused
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from models.terminal import open_home


@pytest.fixture
def fresh(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a home that does not exist, below a folder that does not exist either."""
    path = home / "below" / "parley"
    monkeypatch.setenv("PARLEY_HOME", str(path))
    return path


@pytest.mark.long
def test_a_successful_command_creates_a_home_and_a_failed_one_does_not(fresh: Path, home: Path) -> None:
    with pytest.raises(NotFound), open_home() as opened:
        opened.registry.resolve("nobody")
    assert not home.exists()
    with open_home() as opened:
        opened.registry.register(ModelSpec(id="a", kind="base", path="org/a"))
    assert (fresh / "parley.db").exists()
    with pytest.raises(NotFound), open_home() as opened:
        opened.registry.resolve("nobody")
    with open_home() as opened:
        assert opened.registry.resolve("a").id == "a"


@pytest.mark.long
def test_rows_that_a_failed_command_stored_stay(fresh: Path) -> None:
    with pytest.raises(NotFound), open_home() as opened:
        opened.registry.register(ModelSpec(id="a", kind="base", path="org/a"))
        opened.registry.resolve("nobody")
    assert (fresh / "parley.db").exists()


def test_files_and_other_commands_prevent_the_removal(fresh: Path) -> None:
    settings = load_settings()
    with pytest.raises(OSError, match="stop"), removed_if_unused(settings):
        (fresh / "runs").mkdir(parents=True)
        (fresh / "runs" / "train.log").touch()
        raise OSError("stop")
    assert (fresh / "runs" / "train.log").exists()
    (fresh / "runs" / "train.log").unlink()
    (fresh / "runs").rmdir()
    fresh.rmdir()
    other = -1
    with pytest.raises(OSError, match="stop"), removed_if_unused(settings):
        other = os.open(fresh, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_SH)
        raise OSError("stop")
    os.close(other)
    assert fresh.exists()


def test_an_existing_database_is_never_migrated(settings: Settings, database: Database, monkeypatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    with database.connection() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
    with pytest.raises(Unavailable, match="parley db upgrade"), open_home():
        pass
    with database.connection() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0004"


@pytest.mark.long
def test_an_empty_postgresql_database_gets_its_tables(postgres_server: str, home: Path) -> None:
    from tests.conftest import _new_postgres

    settings = load_settings(home=home, database_url=_new_postgres(postgres_server))
    database = open_database(settings)
    create_tables(settings, database)
    create_tables(settings, database)
    database.check_current()
    assert Registry(database).list() == []
    database.dispose()
