"""Copies and restores the database, and updates the paths in it to another home.

SQLite is copied by its own backup API: a plain copy of the file may be inconsistent. PostgreSQL is copied by pg_dump,
which must not be older than the server.
"""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy import String, Table, inspect, make_url, text
from sqlalchemy.engine import Connection

from models.backup.archive import DatabaseKind
from models.database import Base, Database
from models.errors import Unavailable
from models.settings.environment import child_environment
from models.settings.settings import Settings
from models.tables import JobRow, ModelRow, ReservationRow

NAMES: dict[DatabaseKind, str] = {"sqlite": "parley.db", "postgresql": "parley.dump"}
_BUSY_TIMEOUT_S = 60.0
_BINARIES = "/usr/lib/postgresql"
# The columns that contain paths on this machine.
_PATHS = ((ModelRow, "spec"), (JobRow, "params"), (JobRow, "result"), (ReservationRow, "holder"))


def kind_of(settings: Settings) -> DatabaseKind:
    """The kind of the settings' database."""
    return "sqlite" if settings.database_url is None else "postgresql"


def dump(settings: Settings, target: Path) -> None:
    """Copies the database to a file, consistent, while others read and write.

    Raises:
        Unavailable: the database is damaged, stays locked, or pg_dump fails.
    """
    if kind_of(settings) == "postgresql":
        _run(settings, "pg_dump", "--format=custom", "--no-owner", "--no-acl", f"--file={target}")
        return
    source = settings.home / NAMES["sqlite"]
    if not source.exists():
        raise Unavailable(f"There is no database {source}: nothing to back up.")
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            if (problem := copy.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise Unavailable(f"The database {source} is damaged: {problem}.")
    except sqlite3.Error as error:
        raise Unavailable(f"The database {source} cannot be copied: {error}.") from error


def has_tables(settings: Settings) -> bool:
    """Whether the settings' database has any tables."""
    if kind_of(settings) == "sqlite":
        return (settings.home / NAMES["sqlite"]).exists()
    database = Database(settings.database_address)
    try:
        with database.read() as session:
            return bool(inspect(session.connection()).get_table_names())
    finally:
        database.dispose()


def restore_postgresql(settings: Settings, source: Path) -> None:
    """Replaces the database's tables by a dump's, in one transaction.

    Raises:
        Unavailable: pg_restore fails; the database is as before.
    """
    options = ("--single-transaction", "--clean", "--if-exists", "--no-owner", "--no-acl", "--exit-on-error")
    _run(settings, "pg_restore", *options, str(source))


def move_paths(address: str, old: str, new: str) -> None:
    """Replaces the home's folder in stored paths, if it has changed."""
    if old == new:
        return
    database = Database(address)
    try:
        with database.connection() as connection:
            for table, column in _PATHS:
                _replace(connection, Base.metadata.tables[table.__tablename__], column, (old, new), database.is_sqlite)
    finally:
        database.dispose()


def _replace(connection: Connection, table: Table, column: str, folders: tuple[str, str], is_sqlite: bool) -> None:
    """A path begins with the folder and a slash, in JSON with its characters escaped."""
    name = f'"{column}"'
    is_json = not isinstance(table.c[column].type, String)
    old, new = (json.dumps(path)[1:-1] if is_json else path for path in folders)
    back = "" if is_sqlite or not is_json else "::json"
    value = f"replace(replace(CAST({name} AS TEXT), :a, :b), :c, :d){back}"
    statement = f"UPDATE {table.name} SET {name} = {value} WHERE CAST({name} AS TEXT) LIKE :any ESCAPE '!'"  # noqa: S608 -- our own names
    like = old.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    values = {"a": f"{old}/", "b": f"{new}/", "c": f'"{old}"', "d": f'"{new}"', "any": f"%{like}%"}
    connection.execute(text(statement), values)


def _run(settings: Settings, program: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's programs; the password is in its environment, not among its arguments."""
    folders = sorted(Path(_BINARIES).glob(f"*/bin/{program}"), key=lambda path: _version(path.parts[-3]))
    path = str(folders[-1]) if folders else shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not installed: install PostgreSQL's client (Debian: postgresql-client).")
    address = settings.database_url.get_secret_value() if settings.database_url else ""
    url = make_url(address)
    extra = {"PGPASSWORD": str(url.password)} if url.password else {}
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [path, *arguments, f"--dbname={plain}"],
        env=child_environment(settings, **extra),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise Unavailable(f"{program} failed: {lines[0].removeprefix(f'{program}: ').removeprefix('error: ')}.")


def _version(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
