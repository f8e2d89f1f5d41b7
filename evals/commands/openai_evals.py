"""`parley import openai-evals` and `parley eval verify`: evals exported from OpenAI."""

from pathlib import Path
from typing import Annotated

import typer

from evals.commands.flags import JsonFlag
from evals.reports.terminal import echo
from models.terminal import open_home, print_json

_MOST_PRINTED = 50


def import_group() -> typer.Typer:
    """The commands under `parley import`."""
    group = typer.Typer(help="Import data that was exported from other services.", no_args_is_help=True)
    group.callback()(_group)
    group.command("openai-evals")(import_openai_evals)
    return group


def _group() -> None:
    """Import data that was exported from other services."""


def import_openai_evals(
    path: Annotated[Path, typer.Argument(help="A JSON or JSONL file, or a folder of them.")], as_json: JsonFlag = False
) -> None:
    """Import evals, runs and output items that were exported from OpenAI's API.

    Reads the API's objects as the SDK dumps them (one per file, in lists, or one per line), and Langfuse's layout: one
    file for each eval with its runs, and `files/ID.jsonl`. Evals and runs keep their ids; a completed run becomes an
    evaluation for `parley eval show`. Objects that cannot be imported are listed with the reason.
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
    run: Annotated[str, typer.Argument(help="The id of a run of the evals API: evalrun_….")], as_json: JsonFlag = False
) -> None:
    """Recompute the verdicts of a run's string_check and text_similarity graders, and list those that differ.

    The exit status is 1 if any verdict differs.
    """
    from evals.eval_runs.verification import verify_run

    with open_home() as home:
        verification = verify_run(home.database, run)
    if as_json:
        print_json(
            {
                "compared": verification.compared,
                "equal": verification.equal,
                "deviations": [vars(deviation) for deviation in verification.deviations],
                "left_out": verification.left_out,
            }
        )
    else:
        echo(f"{verification.equal} of {verification.compared} verdicts match.")
        for deviation in verification.deviations[:_MOST_PRINTED]:
            echo(str(deviation))
        if (more := len(verification.deviations) - _MOST_PRINTED) > 0:
            echo(f"… and {more} more: --json lists all.")
        if verification.left_out:
            echo(f"Left out, because their verdicts are not reproducible: {', '.join(verification.left_out)}.")
    if verification.deviations:
        raise typer.Exit(1)
