"""The commands of this room: `parley db`, `models`, `keys`, `feedback`, `backup`, `restore`, `audit` and `settings`.

Each command imports what it needs when it runs.
"""

from typing import Annotated

import typer

from models.commands.audit import audit_command
from models.commands.backup import add_backup_commands
from models.commands.feedback import add_feedback_commands
from models.commands.keys import add_keys_commands
from models.commands.models import RecordedCoverage, WeightTools, add_models_commands, no_coverage
from models.terminal import console


def add_commands(app: typer.Typer, coverage: RecordedCoverage = no_coverage, tools: WeightTools | None = None) -> None:
    """Adds this room's commands to the `parley` app. `coverage`, `tools`: see `models.commands.models`."""
    db = typer.Typer(help="The database: tables and migrations.", no_args_is_help=True)
    db.command("upgrade")(db_upgrade)
    db.command("revision", hidden=True)(db_revision)
    app.add_typer(db, name="db")

    add_models_commands(app, coverage, tools)
    add_keys_commands(app)
    add_feedback_commands(app)
    add_backup_commands(app)
    app.command("audit")(audit_command)
    app.command("settings")(show_settings)


def db_upgrade(
    make_owner_key: Annotated[
        bool, typer.Option("--make-owner-key", help="Create an owner's key and print it if there is no key yet.")
    ] = False,
) -> None:
    """Upgrade the database to this program's tables. `parley up` does this automatically."""
    from models.database import open_database, upgrade
    from models.keys import create_key, keys_configured
    from models.settings.settings import load_settings

    settings = load_settings()
    upgrade(settings)
    if make_owner_key:
        database = open_database(settings)
        try:
            if not keys_configured(database):
                secret = create_key(database, name="owner", role="owner")
                console().print(f"The owner's key, shown only now: {secret}", soft_wrap=True, markup=False)
        finally:
            database.dispose()
    console().print(
        f"The database is up to date: {settings.home / 'parley.db'}"
        if settings.database_url is None
        else "The database is up to date."
    )


def db_revision(message: Annotated[str, typer.Argument(help="What the migration changes.")]) -> None:
    """Write a migration from the differences between the tables.py files and the database (for developers)."""
    from alembic import command

    from models.database import alembic_config, open_database, upgrade
    from models.settings.settings import load_settings

    settings = load_settings()
    upgrade(settings)
    with open_database(settings).migration() as connection:
        command.revision(alembic_config(connection), message=message, autogenerate=True)


def show_settings() -> None:
    """Show every setting with its value and meaning. Secrets are masked."""
    from rich.markup import escape
    from rich.table import Table

    from models.settings.settings import Settings, load_settings

    settings = load_settings()
    table = Table("setting", "value", "what it means", box=None, header_style="bold")
    for name, field in Settings.model_fields.items():
        table.add_row(name, escape(str(getattr(settings, name))), field.description)
    console().print(table)
