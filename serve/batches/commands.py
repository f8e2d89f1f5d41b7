"""`parley batch`: list, show and cancel the batches of this home. Programs create them over HTTP."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from models.terminal import console, open_home, print_json

_ID = typer.Argument(metavar="ID", help="The batch's id.")
_JSON = typer.Option("--json", help="Print JSON instead of a table.")


def add_batch_commands(app: typer.Typer) -> None:
    """Adds `parley batch` to the `parley` app."""
    batch = typer.Typer(
        help="Batches of requests, which programs create with POST /v1/batches. See docs/batches.md.",
        no_args_is_help=True,
    )
    batch.command("list")(batch_list)
    batch.command("show")(batch_show)
    batch.command("cancel")(batch_cancel)
    app.add_typer(batch, name="batch")


def batch_list(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of batches, newest first.")] = 20,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """List batches, newest first."""
    from rich.markup import escape
    from rich.table import Table

    from serve.batches.batches import Batches

    with open_home() as home:
        batches = Batches(home.settings, home.database).page(limit=limit).data
    if as_json:
        print_json(batches, indent=2)
        return
    if not batches:
        console().print("There are no batches.")
        return
    table = Table("batch", "created (UTC)", "status", "model", "requests", box=None, header_style="bold")
    for batch in batches:
        created = datetime.fromtimestamp(batch["created_at"], UTC)
        cells = (batch["id"], f"{created:%Y-%m-%d %H:%M}", batch["status"], batch["model"] or "", _counts(batch))
        table.add_row(*map(escape, cells))
    console().print(table)


def batch_show(batch_id: Annotated[str, _ID], as_json: Annotated[bool, _JSON] = False) -> None:
    """Show one batch: its progress, its result files, and why it failed."""
    from rich.markup import escape
    from rich.table import Table

    from serve.batches.batches import Batches

    with open_home() as home:
        batch = Batches(home.settings, home.database).get(batch_id)
    if as_json:
        print_json(batch, indent=2)
        return
    table = Table(show_header=False, box=None)
    shown = {name: value for name, value in batch.items() if value is not None and name not in ("object", "errors")}
    for name, value in (shown | {"request_counts": _counts(batch)}).items():
        if name.endswith("_at"):
            value = f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
        elif name == "usage":
            value = f"{value['input_tokens']:,} input and {value['output_tokens']:,} output tokens"
        elif isinstance(value, dict):
            value = ", ".join(f"{key}={text}" for key, text in value.items())
        if value != "":
            table.add_row(name.replace("_", " ").removesuffix(" id"), escape(str(value)))
    console().print(table)
    for error in (batch["errors"] or {}).get("data", ()):
        line = f"line {error['line']}: " if error["line"] else ""
        console().print(f"{line}{error['message']} ({error['code']})", markup=False, soft_wrap=True)


def batch_cancel(batch_id: Annotated[str, _ID]) -> None:
    """Cancel a batch. What is answered stays in its output file."""
    from serve.batches.batches import Batches

    with open_home() as home:
        batch = Batches(home.settings, home.database).cancel(batch_id)
    typer.echo(f"{batch_id} is {batch['status']}.")


def _counts(batch: dict[str, Any]) -> str:
    counts = batch["request_counts"]
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    return f"{counts['completed']:,} of {counts['total']:,}{failed}"
