"""`parley doctor` and `parley status`: what a terminal shows of `doctor` and `status`, which are beside this file."""

import json
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def doctor_command(as_json: JsonFlag = False) -> None:
    """Check this machine: GPU, memory, ports, versions, SQLite, disk, keys, limits, and say what to do.

    It changes nothing, and runs before the first start as well as beside a running Parley. The exit status is 1 where
    something must be mended before Parley can start.
    """
    from models.settings import load_settings
    from models.terminal import console
    from serve.launcher import doctor

    findings = doctor.examine(load_settings())
    if as_json:
        typer.echo(json.dumps(doctor.as_json(findings), indent=2))
    else:
        doctor.show(findings, console())
    if any(one.state == "fail" for one in findings):
        raise typer.Exit(1)


def status_command(as_json: JsonFlag = False) -> None:
    """Show what runs: processes, models with their state, and the last words of engines that failed."""
    from models.cli import opened
    from models.terminal import console
    from serve.launcher import status

    settings, database = opened()
    if as_json:
        typer.echo(json.dumps(status.report(settings, database), indent=2))
    else:
        status.show(settings, database, console())
