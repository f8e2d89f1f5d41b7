"""New homes: the first command in one creates it with its database, and removes it again if the command fails."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import func, inspect, select, table

from models.database import Database, open_database, upgrade
from models.settings.settings import Settings

_DATABASE_FILES = {f"parley.db{suffix}" for suffix in ("", "-journal", "-wal", "-shm")}
_LOCK = "up.lock"
# Rows of these tables come with the tables themselves: the revision, and the campaign at /vote.
_OWN_ROWS = {"alembic_version": 1, "campaigns": 1}


def create_tables(settings: Settings, database: Database) -> None:
    """Creates the tables in a database that has none. A database with tables is never migrated here."""
    with database.read() as session:
        empty = not inspect(session.connection()).get_table_names()
    if empty:
        upgrade(settings)


@contextmanager
def removed_if_unused(settings: Settings) -> Iterator[None]:
    """Removes a home that the block created, if the block fails and has stored nothing in it.

    A command that uses the home at the same time prevents the removal.
    """
    home = settings.home
    missing = [path for path in (home, *home.parents) if not path.exists()]
    new_database = settings.database_url is None and not (home / "parley.db").exists()
    lock = _lock_folder(settings)
    try:
        yield
    except BaseException:
        if (missing or new_database) and lock is not None:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(settings, missing)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _lock_folder(settings: Settings) -> int | None:
    """A descriptor of the home with a shared lock; None if the home cannot be created or locked."""
    home = settings.home
    for _ in range(3):
        try:
            home.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(home, os.O_RDONLY)
        except OSError:
            return None  # opening the database reports it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(descriptor), home.stat()):
                return descriptor
        except OSError:
            pass
        os.close(descriptor)  # another command has just removed this folder
    return None


def _remove(settings: Settings, missing: list[Path]) -> None:
    home = settings.home
    entries = list(home.iterdir())
    files = [entry for entry in entries if entry.name in {*_DATABASE_FILES, _LOCK}]
    folders = [entry for entry in entries if entry.is_dir()]
    if missing and (len(files) + len(folders) < len(entries) or any(any(folder.iterdir()) for folder in folders)):
        return
    if settings.database_url is None and (home / "parley.db").exists():
        if not _is_unused(settings):
            return
        for file in files:
            if file.name in _DATABASE_FILES:
                file.unlink(missing_ok=True)
    if missing:
        (home / _LOCK).unlink(missing_ok=True)
        for folder in (*folders, *missing):
            folder.rmdir()


def _is_unused(settings: Settings) -> bool:
    """Whether the database contains no rows except those that its migrations insert."""
    database = open_database(settings)
    try:
        with database.read() as session:
            return all(
                (session.scalar(select(func.count()).select_from(table(name))) or 0) <= _OWN_ROWS.get(name, 0)
                for name in inspect(session.connection()).get_table_names()
            )
    finally:
        database.dispose()
