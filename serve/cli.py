"""This room's commands: `parley up`, `parley gateway`, `parley status`, `parley models import openai`.

`add_commands` hangs them on the front door's Typer app; nothing is loaded before a command runs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Mounts = Callable[[], Sequence[Any]]


def add_commands(app: typer.Typer, mounts: Mounts | None = None) -> None:
    """Hangs this room's commands on the `parley` app. `mounts` gives the Starlette routes of other rooms."""

    def gateway() -> None:
        """Run the gateway alone. `parley up` starts it with everything else."""
        serve_gateway(mounts)

    app.command("up")(up)
    app.command("gateway", hidden=True)(gateway)
    app.command("status")(status)


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
    from serve.parent import up as run

    settings = load_settings(home=home, host=host, port=port, page_host=page_host, page_port=page_port, device=device)
    run(settings, page=page, worker=worker, make_owner_key=make_owner_key)


def serve_gateway(mounts: Mounts | None) -> None:
    """Runs the gateway in this process, with other rooms' routes."""
    import logging

    from models.database import open_database
    from models.keys import keys_configured
    from models.settings import load_settings
    from serve import preflight
    from serve.gateway import run

    settings = load_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    database = open_database(settings)
    database.check_current()
    preflight.check_doors(settings, page=False, keys=keys_configured(database))
    run(settings, database, mounts() if mounts else ())


def status() -> None:
    """Show what runs: processes, models with their state, and the last words of engines that failed."""
    from models.cli import console, opened
    from serve.status import show

    settings, database = opened()
    show(settings, database, console())
