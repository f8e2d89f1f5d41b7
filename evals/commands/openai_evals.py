"""`parley import openai-evals`, `parley eval start` and `parley eval verify`: evals exported from OpenAI."""

from pathlib import Path
from typing import Annotated

import typer

from evals.commands.flags import JsonFlag, split_commas
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
    path: Annotated[Path, typer.Argument(help="A JSON, JSONL or YAML file, or a folder of them.")],
    judge: Annotated[
        str | None, typer.Option(help="The model for promptfoo's rubrics that name none, such as llm-rubric.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Import evals that were exported from OpenAI: dumps of the API, promptfoo configurations, promptfoo results.

    Reads the API's objects as the SDK dumps them (one per file, in lists, or one per line), and Langfuse's layout: one
    file for each eval with its runs, and `files/ID.jsonl`. Evals and runs keep their ids; a completed run becomes an
    evaluation for `parley eval show`.

    A promptfooconfig.yaml becomes an eval, and `parley eval start` runs its prompts. promptfoo's results become
    completed runs. No code in the files is run. Everything that cannot be imported is listed with the reason.
    """
    from evals.exchange.imports import import_evals

    with open_home() as home:
        done = import_evals(home.settings, home.database, path, judge)
    objects = done.objects
    if as_json:
        made = [vars(each) for each in done.evals]
        result = {"imported": dict(objects.imported), "lost": objects.lost, "runs": objects.runs}
        print_json(result | ({"evals": made} if made else {}))
        return
    if counts := ", ".join(f"{count} {kind}" for kind, count in objects.imported.items()):
        echo(f"Imported: {counts}.")
    for each in done.evals:
        state = "" if each.new else ", which existed already"
        echo(f"Imported: {each.id}, {each.name}: {each.rows} rows, {each.runs} planned runs{state}.")
    if not counts and not done.evals:
        echo("Imported: nothing new.")
    for line in objects.lost:
        echo(f"Not imported: {line}")
    if objects.runs:
        echo("`parley eval list` shows the completed runs; `parley eval verify RUN` recomputes their verdicts.")
    if done.evals:
        echo("`parley eval start EVAL` starts the planned runs; with --models NAME, with your own models.")


def start(
    eval_id: Annotated[str, typer.Argument(metavar="EVAL", help="The id of an imported eval: eval_….")],
    models: Annotated[
        str, typer.Option(help="Models, separated by commas, instead of those in the configuration.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Start the runs of an imported promptfoo configuration: each prompt with each model.

    The worker of a running Parley executes them; `parley eval list` shows each one when it is complete.

    Examples:

      parley eval start eval_3f0c --models support-friendly,support-concise
    """
    from evals.exchange.planned_runs import start_runs

    with open_home() as home:
        runs = start_runs(home.settings, home.database, eval_id, split_commas(models))
    if as_json:
        print_json([{"id": run["id"], "name": run["name"], "model": run["model"]} for run in runs])
        return
    for run in runs:
        echo(f"Started: {run['id']}, {run['name']}.")


def export(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A run, evalrun_…, or an eval, eval_…: its newest run.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    to: Annotated[str, typer.Option(help="promptfoo or inspect.")],
    base_url: Annotated[
        str | None, typer.Option(help="The address that promptfoo calls; by default this Parley's.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write an eval as files for promptfoo or Inspect: rows, prompt, model and graders.

    What has no counterpart is listed, also in the folder's README.md, which says how to run the files.

    Examples:

      parley eval export evalrun_01JD capitals --to promptfoo

      parley eval export eval_3f0c capitals-inspect --to inspect
    """
    from evals.exchange.exports import export_eval

    with open_home() as home:
        made = export_eval(home.settings, home.database, wanted, to, base_url)
        made.write(folder)
    if as_json:
        print_json({"files": sorted(made.files), "lost": made.lost})
        return
    echo(f"Wrote {len(made.files)} files and README.md to {folder}.")
    for line in made.lost:
        echo(f"Not exported: {line}")


def verify(
    run: Annotated[str, typer.Argument(help="The id of a run of the evals API: evalrun_….")], as_json: JsonFlag = False
) -> None:
    """Recompute the verdicts of a run's deterministic graders, and list those that differ.

    Deterministic are string_check, text_similarity except cosine, and python, which runs in a sandbox. The others are
    listed with the reason. The exit status is 1 if any verdict differs.
    """
    from evals.eval_runs.verification import verify_run

    with open_home() as home:
        verification = verify_run(home.database, run, unsandboxed=home.settings.unsandboxed_graders)
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
        for line in verification.left_out:
            echo(f"Not recomputed: {line}")
    if verification.deviations:
        raise typer.Exit(1)
