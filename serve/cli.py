"""This room's commands: `parley up`, `serve`, `gateway`, `openapi`, `status`, `doctor`, `generate`, and
`parley models import openai`.

`add_commands` hangs them on the front door's Typer app; nothing is loaded before a command runs.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.bulk.command import generate_command
from serve.launcher.serve_command import serve_command
from serve.launcher.status_commands import doctor_command, status_command

if TYPE_CHECKING:
    from models.database import Database
    from models.settings import Settings
    from serve.openai_import import FineTune

# Given settings and database, the Starlette routes of other rooms.
Mounts = Callable[["Settings", "Database"], Sequence[Any]]


def add_commands(app: typer.Typer, mounts: Mounts | None = None) -> None:
    """Hangs this room's commands on the `parley` app. `mounts` gives the other rooms' routes, for the gateway."""

    def gateway(
        door: Annotated[
            str, typer.Option(help="Numbers of open sockets to listen on, as `parley up` gives them.")
        ] = "",
    ) -> None:
        """Run the gateway alone. `parley up` starts it with everything else."""
        serve_gateway(mounts, [int(number) for number in door.split(",") if number])

    def openapi() -> None:
        """Print the OpenAPI document of every route, as GET /openapi.json has it."""
        print_openapi(mounts)

    app.command("up")(up)
    app.command("gateway", hidden=True)(gateway)
    app.command("openapi")(openapi)
    app.command("serve")(serve_command)
    app.command("status")(status_command)
    app.command("doctor")(doctor_command)
    app.command("generate")(generate_command)
    # `parley models` is the room models/'s group; importing needs HTTP, which is this room's.
    group = next((group.typer_instance for group in app.registered_groups if group.name == "models"), None)
    if group is not None:
        importing = typer.Typer(help="Register models that are somewhere else.", no_args_is_help=True)
        importing.command("openai")(import_openai)
        group.add_typer(importing, name="import")


def up(
    home: Annotated[Path | None, typer.Option(help="The folder that holds everything (PARLEY_HOME).")] = None,
    host: Annotated[str | None, typer.Option(help="The gateway's address. Wider than loopback needs a key.")] = None,
    port: Annotated[int | None, typer.Option(help="The gateway's port.")] = None,
    page_host: Annotated[str | None, typer.Option(help="The page's address. Wider than loopback needs a key.")] = None,
    page_port: Annotated[int | None, typer.Option(help="The page's port.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    page: Annotated[bool, typer.Option(help="Start the page.")] = True,
    worker: Annotated[bool, typer.Option(help="Start the worker that runs training and judging.")] = True,
    make_owner_key: Annotated[
        bool, typer.Option("--make-owner-key", help="Make an owner's key and print it, where there is no key yet.")
    ] = False,
) -> None:
    """Start everything: engines, gateway, page and worker. Ctrl-C stops it."""
    from models.settings import load_settings
    from serve.launcher.parent import up as run

    settings = load_settings(home=home, host=host, port=port, page_host=page_host, page_port=page_port, device=device)
    run(settings, page=page, worker=worker, make_owner_key=make_owner_key)


def serve_gateway(mounts: Mounts | None, door: Sequence[int] = ()) -> None:
    """Runs the gateway in this process, with other rooms' routes; on the sockets of `door` where there are any."""
    import logging

    from models.database import open_database
    from models.keys import keys_configured
    from models.settings import load_settings
    from serve.gateway.server import run
    from serve.launcher import preflight

    settings = load_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = open_database(settings)
    database.check_current()
    configured = keys_configured(database)
    preflight.check_doors(settings, page=False, keys=configured)
    if not configured:
        logging.getLogger("parley.gateway").info(preflight.door_words(settings))
    run(settings, database, mounts(settings, database) if mounts else (), door)


def print_openapi(mounts: Mounts | None) -> None:
    """Writes the document to standard output; touches neither home nor database."""
    import json

    from models.database import Database
    from models.settings import load_settings
    from serve.openapi.document import openapi_document

    settings = load_settings()
    # Not opened as others open it: that would make the home.
    database = Database(settings.database_address)
    typer.echo(json.dumps(openapi_document(mounts(settings, database) if mounts else ()), indent=2))


def import_openai(
    everything: Annotated[bool, typer.Option("--all", help="Register all of them.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Register this one; may be given again.")] = None,
    name: Annotated[str | None, typer.Option(help="With one --only: the name that clients will send.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show them and register nothing.")] = False,
) -> None:
    """Show the fine-tuned models of your OpenAI account, and serve those that you choose through Parley.

    The key is taken from OPENAI_API_KEY, now and whenever Parley runs; it is stored nowhere.
    """
    from models.cli import opened
    from models.errors import Invalid
    from models.terminal import console
    from serve import openai_import

    settings, database = opened()
    found = openai_import.openai_fine_tunes(settings, database)
    out = console()
    if not found:
        out.print("This OpenAI account has no fine-tuned models.")
        return
    out.print(_fine_tunes_table(found))
    fresh = [one for one in found if not one.registered]
    if list_only:
        return
    if only:
        chosen = openai_import.choose(found, only)
    elif everything:
        chosen = fresh
    elif not fresh:
        chosen = []
    elif sys.stdin.isatty():
        answer = typer.prompt("Which ones? Numbers with commas, «all», or nothing", default="", show_default=False)
        chosen = _picked(found, fresh, answer)
    else:
        out.print("Register them with --all or --only ID.")
        return
    if name and len(chosen) != 1:
        raise Invalid("--name goes with one model: choose it with --only.", param="name")
    for one in chosen:
        spec = openai_import.register_fine_tune(settings, database, one, name=name)
        out.print(f"{spec.id} is registered. Clients reach it at {settings.gateway_url}")
    if not chosen:
        out.print("Nothing new was registered.")


def _picked(found: "list[FineTune]", fresh: "list[FineTune]", answer: str) -> "list[FineTune]":
    from models.errors import Invalid

    if answer.strip().lower() == "all":
        return fresh
    try:
        return [found[int(number) - 1] for number in answer.replace(",", " ").split()]
    except (ValueError, IndexError):
        raise Invalid(f"{answer!r} is no choice: give numbers from the table, such as 1,3.") from None


def _fine_tunes_table(found: "list[FineTune]") -> Any:
    from rich.table import Table

    table = Table("", "model", "tuned from", "made", "switched off", "", box=None, header_style="bold")
    for number, one in enumerate(found, 1):
        off = f"[red]{one.shutdown_date}[/]" if one.shutdown_date else ""
        there = "registered" if one.registered else ""
        table.add_row(str(number), one.model, one.base, f"{one.created:%Y-%m-%d}", off, there)
    return table
