"""The database: SQLite in the home by default, PostgreSQL by address. It knows sessions and safety, no table.

SQLite is used as FACTS about it demand: `synchronous=FULL` and a busy timeout always; WAL only in releases
without the WAL-reset fault (3.7.0 to 3.51.2 can corrupt a database that two connections use: fixed in 3.51.3,
3.50.7 and 3.44.6), a rollback journal in all others.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, MetaData, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator
from ulid import ULID

from models.errors import Invalid, NoSpace, Unavailable
from models.settings import Settings

_BUSY_TIMEOUT_S = 30
# libpq would wait for a server that is cut off as long as TCP does, which is hours.
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


class Base(DeclarativeBase):
    """Every room's tables hang on this metadata. Constraints have names, so that a migration can drop them."""

    metadata = MetaData(naming_convention=_NAMES)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: stored as naive UTC, handed out aware. A naive moment is refused rather than guessed at."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone: use models.database.utcnow()")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)


def utcnow() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


def new_ulid() -> str:
    """A fresh id of 26 characters that sorts by the time it was made."""
    return str(ULID())


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite may use WAL with several connections (sqlite.org/wal.html, «the WAL-reset bug»)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


class Database:
    """One database, many short transactions. Made by `open_database`; safe to share between threads."""

    def __init__(self, address: str) -> None:
        try:
            sqlite = address.startswith("sqlite")
            # What the address says itself stands.
            waits = {} if sqlite else {k: v for k, v in _PATIENCE.items() if k not in make_url(address).query}
            self._engine = create_engine(address, pool_pre_ping=not sqlite, connect_args=waits)
        except (SQLAlchemyError, ImportError) as error:
            raise Invalid(
                "The database address cannot be used: it should read postgresql://user:password@host/name.",
                param="database_url",
            ) from error
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        if self.is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._writer = self._engine.execution_options(parley_write=True)

    @property
    def url(self) -> str:
        """The address without its password, fit to be shown."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session to read in: one consistent view, nothing is written."""
        with _told_in_one_line(self), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session to write in: all of it is on disk when the block ends, or none of it after an error.

        On SQLite the lock is taken at the start (BEGIN IMMEDIATE), so that what was read is still true at the end.
        """
        with (
            _told_in_one_line(self),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A bare connection in a transaction, for migrations."""
        with _told_in_one_line(self), self._writer.begin() as connection:
            yield connection

    def check_current(self) -> None:
        """Raises Unavailable where the tables are missing, older or newer than this program's."""
        from alembic.script import ScriptDirectory

        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        with self.read() as session:
            known = inspect(session.connection()).has_table("alembic_version")
            current = session.scalar(text("SELECT version_num FROM alembic_version")) if known else None
        if current != head:
            found = f"is at revision {current}" if current else "has no tables yet"
            raise Unavailable(f"The database {self.url} {found}, this Parley needs {head}. Run `parley db upgrade`.")

    def dispose(self) -> None:
        """Closes the pooled connections."""
        self._engine.dispose()


def open_database(settings: Settings) -> Database:
    """The settings' database. It does not migrate: `upgrade` does, which only `parley up` and `parley db` call."""
    if settings.database_url is None:
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(
                f"The home {settings.home} cannot be made: {error.strerror}. Choose another with PARLEY_HOME.",
                param="home",
            ) from error
    return Database(settings.database_address)


def upgrade(settings: Settings) -> None:
    """Brings the database's tables to this program's revision, with Alembic. Does nothing where they are."""
    from alembic import command

    database = open_database(settings)
    try:
        with database.connection() as connection:
            command.upgrade(alembic_config(connection), "head")
    finally:
        database.dispose()


def alembic_config(connection: Connection) -> Any:
    """An `alembic.config.Config` for the project's migrations, over an open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _prepare_sqlite(dbapi_connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own implicit transactions are switched off: `_begin_sqlite` opens them, and knows which kind.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    wanted = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "delete"
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != wanted:
        cursor.execute(f"PRAGMA journal_mode = {wanted}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("parley_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _told_in_one_line(database: Database) -> Iterator[None]:
    """A database that is gone, locked, damaged or out of disk becomes one line; anything else passes through."""
    try:
        yield
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        if "disk is full" in reason or "No space left" in reason:
            raise NoSpace(f"The disk under {database.url} is full. Free some space and try again.") from error
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_READONLY_DBMOVED":
            # What is open is a file without a name: what was written there would be lost, and SQLite refuses it.
            database.dispose()
            raise Unavailable(f"The file of {database.url} was moved or deleted. Put it back.") from error
        if "no such table" in reason:
            raise Unavailable(f"The database {database.url} has no tables yet. Run `parley db upgrade`.") from error
        raise Unavailable(f"The database {database.url} does not answer: {reason}.") from error
    except DatabaseError as error:
        # SQLite's own words for a damaged file, and no finer class than this.
        reason = str(error.orig)
        if "not a database" in reason or "malformed" in reason:
            raise Unavailable(f"The database {database.url} is damaged: {reason}. Put a copy in its place.") from error
        raise
