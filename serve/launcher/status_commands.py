"""The commands `parley doctor` and `parley status`."""

import json
from typing import Annotated

import typer

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def doctor_command(as_json: JsonFlag = False) -> None:
    """Check this machine: GPU, memory, ports, versions, SQLite, disk, keys, limits.

    It changes nothing, and works before the first start and while Parley runs. The exit status is 1 if a
    check failed that prevents a start.
    """
    from models.settings import load_settings
    from models.terminal import console
    from serve.launcher import doctor

    findings = doctor.examine(load_settings())
    if as_json:
        typer.echo(json.dumps(doctor.as_json(findings), indent=2))
    else:
        doctor.show(findings, console())
    if any(finding.state == "fail" for finding in findings):
        raise typer.Exit(1)


def status_command(as_json: JsonFlag = False) -> None:
    """Show what is running: processes, models with their state, and the last log lines of failed engines."""
    from models.terminal import console, open_home
    from serve.launcher import status

    with open_home() as home:
        if as_json:
            typer.echo(json.dumps(status.report(home.settings, home.database), indent=2))
        else:
            status.show(home.settings, home.database, console())
