"""`parley import openai-evals` and `parley eval verify`: evals that were exported from OpenAI."""

from pathlib import Path
from typing import Annotated

import typer

from evals.commands.flags import JsonFlag
from evals.reports.terminal import echo
from models.terminal import open_home, print_json

_MOST_PRINTED = 50


def import_group() -> typer.Typer:
    """The commands under `parley import`."""
    group = typer.Typer(help="Import what other services exported.", no_args_is_help=True)
    group.callback()(_group)
    group.command("openai-evals")(import_openai_evals)
    return group


def _group() -> None:
    """Import what other services exported."""


def import_openai_evals(
    path: Annotated[Path, typer.Argument(help="A JSON or JSONL file, or a folder of them.")], as_json: JsonFlag = False
) -> None:
    """Import evals, runs and output items that were exported from OpenAI's API.

    Reads the API's objects as the SDK dumps them (alone, in lists, or one a line), and Langfuse's layout: a file for
    each eval with its runs, and `files/ID.jsonl`. Evals and runs keep their ids; a completed run becomes an
    evaluation for `parley eval show`. What cannot be imported is listed.
    """
    from evals.eval_runs.openai_dump import import_dump

    with open_home() as home:
        done = import_dump(home.settings, home.database, path)
    if as_json:
        print_json({"imported": dict(done.imported), "lost": done.lost, "runs": done.runs})
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in done.imported.items())
    echo(f"Imported: {counts or 'nothing new'}.")
    for line in done.lost:
        echo(f"Not imported: {line}")
    if done.runs:
        echo("`parley eval list` shows the completed runs; `parley eval verify RUN` recomputes their verdicts.")


def verify(
    run: Annotated[str, typer.Argument(help="A run of the evals API, such as evalrun_….")], as_json: JsonFlag = False
) -> None:
    """Recompute the verdicts of a run's string_check and text_similarity graders, and list those that differ.

    The exit status is 1 if one differs.
    """
    from evals.eval_runs.verification import verify_run

    with open_home() as home:
        found = verify_run(home.database, run)
    if as_json:
        print_json(
            {
                "compared": found.compared,
                "equal": found.equal,
                "deviations": [vars(deviation) for deviation in found.deviations],
                "left_out": found.left_out,
            }
        )
    else:
        echo(f"{found.equal} of {found.compared} verdicts are equal.")
        for deviation in found.deviations[:_MOST_PRINTED]:
            echo(str(deviation))
        if (more := len(found.deviations) - _MOST_PRINTED) > 0:
            echo(f"… and {more} more: --json lists all.")
        if found.left_out:
            echo(f"Not repeatable, so left out: {', '.join(found.left_out)}.")
    if found.deviations:
        raise typer.Exit(1)
