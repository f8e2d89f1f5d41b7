"""`parley models check` and `parley models push`: this room's commands of the group `models`. Light to import."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from models.terminal import console, open_home
from train.data.commands import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from train.publication.push import Push


def add_model_commands(app: typer.Typer) -> None:
    """Adds the commands to the group `models`, which belongs to the room models/ and must not import this one."""
    group = next((group.typer_instance for group in app.registered_groups if group.name == "models"), None)
    if group is not None:
        group.command("check")(check_command)
        group.command("push")(push_command)


def check_command(
    name: Annotated[str, typer.Argument(help="An adapter or a merged model of `parley models list --all`.")],
    as_json: AsJson = False,
) -> None:
    """Compare a model with float32 base + adapter, here and through vLLM; a candidate that passes is listed.

    The probes are held-out conversations of its training, if there are any. The comparison through vLLM needs a running
    `parley up`; without one it is left out, and the model's parity says so.

      parley models check support-v1
    """
    from rich.markup import escape

    from models.commands.models import parity_table
    from train.publication.acceptance import check_model
    from train.run.progress import PlainLines, silent

    out = console()
    lines = silent if as_json else PlainLines(lambda line: out.print(f"[dim]•[/dim] {escape(line)}"))
    with open_home() as home:
        parity = check_model(name, registry=home.registry, settings=home.settings, progress=lines)
        state = home.registry.resolve(name).state
    if as_json:
        typer.echo(json.dumps({"model": name, "state": state} | parity.model_dump(mode="json")))
    else:
        out.print(parity_table(parity))
    if parity.refused:
        raise typer.Exit(1)


def push_command(
    name: Annotated[str, typer.Argument(help="A model of `parley models list` with weights on this machine.")],
    repo: Annotated[str, typer.Argument(help="The repository on the hub, owner/name. Created if it is missing.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository visible to everybody.")] = False,
    as_json: AsJson = False,
) -> None:
    """Push a model to a hub with its card, private unless --public. The files are listed first.

    The token is read from HF_TOKEN. The training record and the probes name your data and are not pushed.

      parley models push support-v1 acme/support-v1
    """
    from rich.filesize import decimal
    from rich.markup import escape

    from train.publication.push import prepare_push, push

    out = console()
    with open_home() as home:
        planned = prepare_push(name, repo, registry=home.registry, settings=home.settings, public=public)
        if not as_json:
            out.print(_files_table(planned))
            visibility = "public" if public else "private"
            size = decimal(planned.size)
            out.print(f"Pushing {size} in {len(planned.files)} files to [bold]{escape(repo)}[/bold] ({visibility}).")
            if planned.stays:
                out.print(f"[dim]Not pushed, because they name your data: {escape(', '.join(planned.stays))}[/dim]")
        address = push(planned, home.settings)
    if as_json:
        typer.echo(json.dumps({"model": name, "repo": repo, "url": address, "bytes": planned.size}))
    else:
        out.print(f"Pushed: {escape(address)}")


def _files_table(planned: "Push") -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("file", "size", box=None, header_style="bold")
    for name, size in planned.files:
        table.add_row(name, decimal(size))
    return table
