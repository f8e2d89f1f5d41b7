"""`parley audit`: who changed which key, model, alias or campaign."""

from typing import Annotated

import typer

from models.terminal import console, open_home, print_json


def audit_command(
    target: Annotated[
        str | None, typer.Argument(help="Only changes of this key, model, alias or campaign, by its name.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of changes to show, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show who changed keys, models, aliases and campaigns, when, and from where."""
    from rich.markup import escape
    from rich.table import Table

    from models.audit import read_audit

    with open_home() as home:
        entries = read_audit(home.database, limit=limit, target=target)
    if as_json:
        print_json([entry.to_json() for entry in entries], indent=2)
        return
    if not entries:
        console().print("No changes are recorded.")
        return
    table = Table("when (UTC)", "who", "from", "what", "of", "", box=None, header_style="bold")
    for entry in entries:
        detail = ", ".join(f"{name} {value}" for name, value in entry.detail.items() if value not in (None, [], {}))
        cells = (entry.actor, entry.address, entry.action, entry.target, detail)
        table.add_row(f"{entry.created:%Y-%m-%d %H:%M:%S}", *map(escape, cells))
    console().print(table)
