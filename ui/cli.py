"""The page's command. Gradio and uvicorn are loaded when it runs, not before."""

from pathlib import Path
from typing import Annotated

import typer

from models.settings import load_settings


def page(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    home: Annotated[Path | None, typer.Option(help="The folder that holds everything.")] = None,
) -> None:
    """Serve the page alone: the owners' app, /vote and /bot/<model>. `parley up` starts it with the rest."""
    from ui.page import serve

    serve(load_settings(page_host=host, page_port=port, home=home))


def add_commands(app: typer.Typer) -> None:
    """Hang this room's commands on the `parley` command."""
    app.command("page")(page)
