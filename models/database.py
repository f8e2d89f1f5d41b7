"""The database: SQLite in the home by default, or PostgreSQL. Sessions and transactions; tables are in tables.py.

SQLite always runs with `synchronous=FULL` and a busy timeout. WAL is used only in releases without the WAL-reset bug
(3.7.0 to 3.51.2 can corrupt a database with two connections; fixed in 3.51.3, 3.50.7 and 3.44.6).
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    DateTime,
    Dialect,
    ExceptionContext,
    MetaData,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import DatabaseError, DataError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from models.clock import new_ulid as new_ulid
from models.clock import utcnow as utcnow
from models.errors import Invalid, NoSpace, ParleyError, Unavailable
from models.settings.settings import Settings

_BUSY_TIMEOUT_S = 30
_MIGRATION_LOCK = 7_275_539  # Parley's id among PostgreSQL's advisory locks
# Without these, libpq waits for an unreachable server as long as TCP does, which is hours.
_TIMEOUTS = {
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
    """The base of every room's tables. Constraints are named so that migrations can drop them."""

    metadata = MetaData(naming_convention=_NAMES)


class UtcDateTime(TypeDecorator[datetime]):
    """A time: stored as naive UTC, returned with its time zone. A naive time is refused."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone: use models.database.utcnow()")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None else value.replace(tzinfo=UTC)


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite may use WAL with several connections (sqlite.org/wal.html, the WAL-reset bug)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


class Database:
    """One database with short transactions. Made by `open_database`; safe to share between threads."""

    def __init__(self, address: str) -> None:
        try:
            sqlite = address.startswith("sqlite")
            # Parameters in the address take precedence.
            waits = {} if sqlite else {k: v for k, v in _TIMEOUTS.items() if k not in make_url(address).query}
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
        event.listen(self._engine, "handle_error", _refuse_value)
        self._writer = self._engine.execution_options(parley_write=True)

    @property
    def url(self) -> str:
        """The address without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only session with one consistent view."""
        with _translate_errors(self), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed durably when the block ends, and rolled back after an error.

        On SQLite it locks at the start (BEGIN IMMEDIATE), so that what it has read stays true until the end.
        """
        with (
            _translate_errors(self),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in a transaction, for statements without the ORM."""
        with _translate_errors(self), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """A connection in a transaction, for migrations.

        SQLite alters a table by dropping and copying it, so that its foreign keys are checked at the end only.

        Raises:
            ParleyError: a row refers to a row that does not exist; nothing was migrated.
        """
        with _translate_errors(self), self._writer.connect() as connection:
            if not self.is_sqlite:
                with connection.begin():
                    # Two commands may create the tables of one database at the same time.
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                    yield connection
                return
            cursor = connection.connection.cursor()  # the setting changes only outside a transaction
            cursor.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    if wrong := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise ParleyError(f"A row of the table {wrong[0]} refers to a missing row of {wrong[2]}.")
            finally:
                cursor.execute("PRAGMA foreign_keys = ON")

    def check_current(self) -> None:
        """Raises Unavailable if the tables are missing, older or newer than this program's."""
        from alembic.script import ScriptDirectory

        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        with self.read() as session:
            known = inspect(session.connection()).has_table("alembic_version")
            current = session.scalar(text("SELECT version_num FROM alembic_version")) if known else None
        if current != head:
            state = f"is at revision {current}" if current else "has no tables yet"
            raise Unavailable(f"The database {self.url} {state}; this Parley needs {head}. Run `parley db upgrade`.")

    def dispose(self) -> None:
        """Closes the pooled connections."""
        self._engine.dispose()


def open_database(settings: Settings) -> Database:
    """Opens the settings' database without migrating it. Only a start, `parley db` and a new home call `upgrade`."""
    if settings.database_url is None:
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Invalid(
                f"The home {settings.home} cannot be created: {error.strerror}. Choose another with PARLEY_HOME.",
                param="home",
            ) from error
    return Database(settings.database_address)


def upgrade(settings: Settings) -> None:
    """Migrates the database's tables to this program's revision, with Alembic."""
    from alembic import command

    database = open_database(settings)
    try:
        with database.migration() as connection:
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
    # Disables the driver's implicit transactions; `_begin_sqlite` opens them in the right mode.
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


def _refuse_value(context: ExceptionContext) -> None:
    """Turns the refusal of a value into an Invalid: half a surrogate pair, NUL, a number that is too large."""
    error = context.original_exception
    refused = isinstance(context.sqlalchemy_exception, DataError)
    if isinstance(error, OverflowError) or (refused and "out of range" in str(error)):
        raise Invalid("A number is too large to be stored: choose a smaller one.") from error
    if refused or isinstance(error, UnicodeEncodeError):
        raise Invalid(
            "A text cannot be stored: it is too long, or contains a NUL or half of a surrogate pair. Change it."
        ) from error


@contextmanager
def _translate_errors(database: Database) -> Iterator[None]:
    """Turns errors of an unreachable, locked, damaged or full database into ParleyErrors."""
    try:
        yield
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        if "disk is full" in reason or "No space left" in reason:
            raise NoSpace(f"The disk under {database.url} is full. Free some space and try again.") from error
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_READONLY_DBMOVED":
            # The open file has no name any more; SQLite refuses to write to it.
            database.dispose()
            raise Unavailable(f"The file of {database.url} was moved or deleted. Put it back.") from error
        if "no such table" in reason:
            raise Unavailable(f"The database {database.url} has no tables yet. Run `parley db upgrade`.") from error
        raise Unavailable(f"The database {database.url} does not answer: {reason}.") from error
    except DatabaseError as error:
        # SQLite reports a damaged file only by this text.
        reason = str(error.orig)
        if "not a database" in reason or "malformed" in reason:
            raise Unavailable(f"The database {database.url} is damaged: {reason}. Restore a backup.") from error
        raise
