"""`parley data …`: its commands import their work when they run."""

import typer


def data_commands() -> typer.Typer:
    """The `data` group, for `train.cli` to hang on the app."""
    return typer.Typer(name="data", help="Look at training data before it costs time or money.", no_args_is_help=True)
