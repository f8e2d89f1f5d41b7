"""The `parley page` command. Gradio and uvicorn are loaded when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from models.settings.settings import load_settings


def page(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder with all of Parley's data.")] = None,
) -> None:
    """Serve only the web page: the owners' app, /vote and /bot/<model>. `parley up` starts it too."""
    from ui.page import serve

    serve(load_settings(page_host=host, page_port=port, home=home))


def add_commands(app: typer.Typer) -> None:
    """Adds this room's commands to the `parley` command."""
    app.command("page")(page)
