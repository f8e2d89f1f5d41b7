"""`parley backup` and `parley restore`."""

from pathlib import Path
from typing import Annotated

import typer

from models.terminal import console


def add_backup_commands(app: typer.Typer) -> None:
    """Adds `parley backup` and `parley restore` to the `parley` app."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The new file, such as parley-2026-01-31.tar.")],
    weights: Annotated[bool, typer.Option(help="Include the models' weights and the checkpoints of runs.")] = False,
) -> None:
    """Back up the home and its database to one file, while Parley runs.

    The file has the database, uploaded files, recordings, the settings file, the page's secret and the records of
    trainings; with `--weights` also models and checkpoints. It contains secrets: protect it like the home itself.
    """
    from models.backup.create import create_backup
    from models.settings.settings import load_settings

    out = console()
    done = create_backup(load_settings(), file, weights=weights)
    without = "" if weights else " Weights are not in it: use --weights to include them."
    out.print(f"{done.path}: the database and {done.files} files, {done.size / 2**20:,.1f} MiB.{without}", markup=False)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `parley backup` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Restore even if the home or the database is not empty.")
    ] = False,
) -> None:
    """Restore a backup into PARLEY_HOME, here or on another machine. Parley must not run from that home.

    The file is checked first; if a byte was changed, nothing is restored. With `--replace`, replaced files are moved to
    a folder `.replaced-…` of the home; a PostgreSQL database is overwritten.
    """
    from models.backup.restore import restore_backup
    from models.settings.settings import load_settings

    out = console()
    done = restore_backup(load_settings(), file, replace=replace)
    out.print(f"{done.home} was restored from {file}: the database and {done.files} files.", markup=False)
    if done.replaced:
        out.print(
            f"The replaced files are in {done.replaced}: delete this folder when you no longer need it.", markup=False
        )
    if done.missing:
        out.print(
            f"The weights of {len(done.missing)} models are missing: {', '.join(done.missing)}. Copy them from the "
            "old machine, or restore a backup made with --weights.",
            markup=False,
        )
    out.print("Start it with `parley up`, which also upgrades an older database.")
