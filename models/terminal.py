"""What the commands of every room share: one console, one way to open the home, numeric flags.

Light to import: Rich, SQLAlchemy and the settings are loaded when a command runs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from models.errors import Invalid

if TYPE_CHECKING:
    from rich.console import Console

    from models.database import Database
    from models.registry.registry import Registry
    from models.settings.settings import Settings

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Home:
    """An open PARLEY_HOME: its settings, its database, and the registry over that database."""

    settings: Settings
    database: Database
    registry: Registry


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A Rich console for tables and lines that people read, on standard output or standard error."""
    from rich.console import Console

    # No emoji: in the id of a fine-tune, `ft:gpt-4o-mini:acme:rocket:A1`, the suffix would become a picture.
    return Console(stderr=stderr, quiet=quiet, highlight=False, emoji=False)


@contextmanager
def open_home() -> Iterator[Home]:
    """The home of the current settings, its database closed at the end.

    A new home is created with its database, and removed again if the block fails and has stored nothing. An existing
    database is not migrated.

    Raises:
        Unavailable: the database is not at this program's revision.
    """
    from models.database import open_database
    from models.home.new_home import create_tables, removed_if_unused
    from models.registry.registry import Registry
    from models.settings.settings import load_settings

    settings = load_settings()
    with removed_if_unused(settings):
        database = open_database(settings)
        try:
            create_tables(settings, database)
            database.check_current()
            yield Home(settings, database, Registry(database))
        finally:
            database.dispose()


def print_json(value: Any, indent: int | None = None) -> None:
    """Prints a command's result as JSON; times and paths become text."""
    import json

    import typer

    typer.echo(json.dumps(value, ensure_ascii=False, default=str, indent=indent))


def parse_number(text: str, flag: str, kind: type[Number]) -> Number | Literal["auto"]:
    """A flag's value as a number, or "auto" as it stands.

    Raises:
        Invalid: the text is neither.
    """
    if text == "auto":
        return "auto"
    try:
        return kind(text)
    except ValueError as error:
        what = "a whole number" if kind is int else "a number"
        raise Invalid(f"--{flag} is {text!r}: use {what}, or auto.", param=flag) from error


def usage_message(error: Any) -> str:
    """A wrong flag or argument in one line, with the help that lists the right ones."""
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')}. See `{context.command_path} --help`." if context else message


def exit_on_termination() -> None:
    """Makes SIGTERM and SIGHUP end this process as an exception does, so that half-written files are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _exit)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)
