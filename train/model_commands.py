"""`parley models check` and `parley models push`: the commands of this room on the group `models`. Light to import."""

import json
from typing import Annotated, Any

import typer


def add_model_commands(app: typer.Typer) -> None:
    """Hangs the commands on the group `models`, which is the room models/'s and may not know this one."""
    group = next((group.typer_instance for group in app.registered_groups if group.name == "models"), None)
    if group is not None:
        group.command("check")(check_command)
        group.command("push")(push_command)


def check_command(
    name: Annotated[str, typer.Argument(help="An adapter or a merged model of `parley models list --all`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Compare a model with float32 base + adapter, here and through vLLM; a candidate that passes is listed.

    The probes are held-out conversations of its training where there were any. It is asked through vLLM while
    `parley up` runs; without that the part is left out, and the model says so.

      parley models check support-v1
    """
    from models.cli import opened
    from models.commands.models import parity_table
    from models.registry import Registry
    from models.terminal import console
    from train.publication.listing import check_model
    from train.run.progress import PlainLines, silent

    settings, database = opened()
    registry = Registry(database)
    out = console()
    lines = silent if as_json else PlainLines(lambda line: out.print(f"[dim]•[/dim] {line}", highlight=False))
    parity = check_model(name, registry=registry, settings=settings, progress=lines)
    if as_json:
        typer.echo(json.dumps({"model": name, "state": registry.resolve(name).state} | parity.model_dump(mode="json")))
    else:
        out.print(parity_table(parity))
    if parity.refused:
        raise typer.Exit(1)


def push_command(
    name: Annotated[str, typer.Argument(help="A model of `parley models list` with weights on this machine.")],
    repo: Annotated[str, typer.Argument(help="Where it goes on the hub: owner/name. Made where it is missing.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see a repository that is made now.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Push a model to a hub with its card, private unless --public. What will go is printed first.

    The token is taken from HF_TOKEN. The record of the training and the probes name your data and stay here.

      parley models push support-v1 acme/support-v1
    """
    from models.cli import opened
    from models.registry import Registry
    from models.terminal import console
    from train.publication.push import prepare_push, push

    settings, database = opened()
    planned = prepare_push(name, repo, registry=Registry(database), settings=settings, public=public)
    out = console()
    if not as_json:
        out.print(_files_table(planned))
        seen = "everybody" if public else "its owner alone"
        out.print(f"{_size(planned.size)} in {len(planned.files)} files go to [bold]{repo}[/bold], seen by {seen}.")
        if planned.stays:
            out.print(f"[dim]Stay here, because they name your data: {', '.join(planned.stays)}[/dim]")
    address = push(planned, settings)
    if as_json:
        typer.echo(json.dumps({"model": name, "repo": repo, "url": address, "bytes": planned.size}))
    else:
        out.print(f"Pushed: {address}")


def _files_table(planned: Any) -> Any:
    from rich.table import Table

    table = Table("file", "size", box=None, header_style="bold")
    for name, size in planned.files:
        table.add_row(name, _size(size))
    return table


def _size(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return ""
