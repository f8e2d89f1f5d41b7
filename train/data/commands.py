"""`parley data …`: the group and its commands. Light to import; each command loads its work when it runs.

`money_commands` (count, price, plan, synthesise, advise) hangs its commands on the same group by a line at the end of
`data_commands`.
"""

import typer


def data_commands() -> typer.Typer:
    """The `data` group, for `train.cli` to hang on the app."""
    return typer.Typer(name="data", help="Look at training data before it costs time or money.", no_args_is_help=True)
