"""This room's commands: `parley up`, `serve`, `gateway`, `openapi`, `status`, `doctor`, `generate`,
`batch`, and `parley models import openai`.

`add_commands` adds them to the `parley` app; a command's own modules are loaded when it runs.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.command_options import expand_options, settings_options
from models.terminal import print_json
from serve.batches.commands import add_batch_commands
from serve.bulk.command import generate_command
from serve.launcher.serve_command import RayAddress, serve_command

if TYPE_CHECKING:
    from models.database import Database
    from models.settings.settings import Settings
    from serve.openai_import import FineTune

# Returns the Starlette routes of other rooms.
Mounts = Callable[["Settings", "Database"], Sequence[Any]]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def add_commands(app: typer.Typer, mounts: Mounts | None = None) -> None:
    """Adds this room's commands to the `parley` app. `mounts` returns the other rooms' routes for the gateway."""

    def gateway(
        sockets: Annotated[
            str, typer.Option("--door", help="File descriptors of listening sockets, as `parley up` passes them.")
        ] = "",
        number: Annotated[
            int, typer.Option("--worker", help="This process's number among those of `gateway_workers`.")
        ] = 0,
    ) -> None:
        """Run the gateway alone. `parley up` starts it with everything else."""
        serve_gateway(mounts, [int(descriptor) for descriptor in sockets.split(",") if descriptor], number)

    def openapi() -> None:
        """Print the OpenAPI document of all routes, as GET /openapi.json returns it."""
        print_openapi(mounts)

    app.command("up")(up)
    app.command("gateway")(gateway)
    app.command("openapi")(openapi)
    app.command("serve")(expand_options(serve_command))
    app.command("status")(status_command)
    app.command("doctor")(doctor_command)
    app.command("generate")(generate_command)
    add_batch_commands(app)
    # `parley models` belongs to the room models/; the import needs HTTP, which is this room's.
    group = next((group.typer_instance for group in app.registered_groups if group.name == "models"), None)
    if group is not None:
        import_group = typer.Typer(help="Register models that run elsewhere.", no_args_is_help=True)
        import_group.command("openai")(import_openai)
        group.add_typer(import_group, name="import")


@settings_options(dict.fromkeys(("home", "host", "port", "gateway_workers", "page_host", "page_port", "device")))
def up(
    page: Annotated[bool, typer.Option(help="Start the page.")] = True,
    worker: Annotated[bool, typer.Option(help="Start the worker that runs training and judging.")] = True,
    make_owner_key: Annotated[
        bool, typer.Option("--make-owner-key", help="Create an owner's key and print it if there is no key yet.")
    ] = False,
    on: RayAddress = None,
    **settings: Any,
) -> None:
    """Start everything: engines, gateway, page and worker. Ctrl-C stops it."""
    from models.settings.settings import load_settings
    from serve.launcher.parent import up as run

    run(load_settings(**settings, ray_address=on), page=page, worker=worker, make_owner_key=make_owner_key)


def serve_gateway(mounts: Mounts | None, sockets: Sequence[int] = (), number: int = 0) -> None:
    """Runs the gateway with other rooms' routes, on inherited sockets if there are any.

    It runs in this process, or in `gateway_workers` processes below it. `number` is the one of such a process.
    """
    import logging

    from models.database import open_database
    from models.keys import keys_configured
    from models.settings.settings import load_settings
    from serve.gateway.server import run
    from serve.launcher import preflight

    settings = load_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = open_database(settings)
    database.check_current()
    configured = keys_configured(database)
    preflight.check_keys(settings, page=False, keys=configured)
    preflight.check_tls(settings, page=False)
    if not configured and number <= 1:
        logging.getLogger("parley.gateway").info(preflight.no_key_note(settings))
    if settings.gateway_workers > 1 and not number:
        from serve.launcher.gateway_workers import run_gateways

        database.dispose()
        run_gateways(settings)
        return
    run(settings, database, mounts(settings, database) if mounts else (), sockets, max(number, 1))


def print_openapi(mounts: Mounts | None) -> None:
    """Prints the document. Opens neither home nor database."""

    from models.database import Database
    from models.settings.settings import load_settings
    from serve.openapi.document import openapi_document

    settings = load_settings()
    # Not through `open_database`, which would create the home.
    database = Database(settings.database_address)
    print_json(openapi_document(mounts(settings, database) if mounts else ()), indent=2)


def import_openai(
    everything: Annotated[bool, typer.Option("--all", help="Register all of them.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Register this one. Can be given several times.")] = None,
    name: Annotated[str | None, typer.Option(help="With one --only: the name that clients send.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List them and register nothing.")] = False,
) -> None:
    """List the fine-tuned models of your OpenAI account and register those that you choose.

    The key is read from OPENAI_API_KEY, now and whenever Parley runs. It is not stored.
    """
    from models.errors import Invalid
    from models.home.instance import gateway_url
    from models.terminal import console, open_home
    from serve import openai_import

    with open_home() as home:
        settings, database = home.settings, home.database
        fine_tunes = openai_import.openai_fine_tunes(settings, database)
        out = console()
        if not fine_tunes:
            out.print("This OpenAI account has no fine-tuned models.")
            return
        out.print(_fine_tunes_table(fine_tunes))
        unregistered = [fine_tune for fine_tune in fine_tunes if not fine_tune.registered]
        if list_only:
            return
        if only:
            chosen = openai_import.choose(fine_tunes, only)
        elif everything:
            chosen = unregistered
        elif not unregistered:
            chosen = []
        elif sys.stdin.isatty():
            answer = typer.prompt('Which ones? Numbers such as 1,3, or "all"', default="", show_default=False)
            chosen = _parse_choice(fine_tunes, unregistered, answer)
        else:
            out.print("Register them with --all or --only ID.")
            return
        if name and len(chosen) != 1:
            raise Invalid("--name needs exactly one model: choose it with --only.", param="name")
        for fine_tune in chosen:
            spec = openai_import.register_fine_tune(settings, database, fine_tune, name=name)
            out.print(f"{spec.id} is registered. Clients reach it at {gateway_url(settings)}")
        if not chosen:
            out.print("No model was registered.")


def _parse_choice(fine_tunes: "list[FineTune]", unregistered: "list[FineTune]", answer: str) -> "list[FineTune]":
    from models.errors import Invalid

    if answer.strip().lower() == "all":
        return unregistered
    try:
        return [fine_tunes[int(number) - 1] for number in answer.replace(",", " ").split()]
    except (ValueError, IndexError):
        raise Invalid(f"{answer!r} is not a valid choice: give numbers from the table, such as 1,3.") from None


def _fine_tunes_table(fine_tunes: "list[FineTune]") -> Any:
    from rich.table import Table

    table = Table("", "model", "fine-tuned from", "created", "shutdown", "", box=None, header_style="bold")
    for number, fine_tune in enumerate(fine_tunes, 1):
        shutdown = f"[red]{fine_tune.shutdown_date}[/]" if fine_tune.shutdown_date else ""
        status = "registered" if fine_tune.registered else ""
        table.add_row(str(number), fine_tune.model, fine_tune.base, f"{fine_tune.created:%Y-%m-%d}", shutdown, status)
    return table


@settings_options(dict.fromkeys(("home", "host", "port", "page_host", "page_port", "device")))
def doctor_command(as_json: JsonFlag = False, **settings: Any) -> None:
    """Check this machine: GPU, memory, ports, versions, SQLite, disk, keys, limits.

    It changes nothing, and works before the first start and while Parley runs. The exit status is 1 if a
    check failed that prevents a start.
    """
    from models.settings.settings import load_settings
    from models.terminal import console
    from serve.launcher import doctor

    findings = doctor.examine(load_settings(**settings))
    if as_json:
        print_json(doctor.to_json(findings), indent=2)
    else:
        doctor.show(findings, console())
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def status_command(as_json: JsonFlag = False) -> None:
    """Show what is running: processes, models with their state, and the last log lines of failed engines."""
    from models.settings.settings import load_settings
    from models.terminal import console, open_home
    from serve.launcher import status

    settings = load_settings()
    if settings.database_url is None and not (settings.home / "parley.db").exists():
        # Only looking must not create a home.
        typer.echo(json.dumps(status.EMPTY | {"home": str(settings.home)}) if as_json else status.not_running(settings))
        return
    with open_home() as home:
        if as_json:
            print_json(status.report(home.settings, home.database), indent=2)
        else:
            status.show(home.settings, home.database, console())
