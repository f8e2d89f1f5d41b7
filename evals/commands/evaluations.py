"""`parley eval run`, `list`, `show`, `diff` and `scorers`. They print; `served_runs` and `evals.tasks` do the work."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evals.commands.flags import HtmlFile, JsonFlag, split_commas
from evals.commands.openai_evals import export, start, verify
from evals.reports.evaluation_terminal import (
    print_bad_rows,
    print_contamination,
    print_diff,
    print_overview,
    print_timing,
)
from evals.reports.terminal import SHORT_ID, ProgressBar, echo, folding_table
from models.errors import Invalid
from models.terminal import Home, open_home, print_json

if TYPE_CHECKING:
    from evals.tasks.contamination import Contamination
    from evals.tasks.evaluations import Evaluation
    from evals.tasks.summaries import Side
    from evals.tasks.task import Task

_MAX_TOKENS = 512

EvaluationId = Annotated[str, typer.Argument(help="An evaluation: its id, the end of its id, or `last`.")]


def eval_group() -> typer.Typer:
    """The commands under `parley eval`."""
    group = typer.Typer(help="Evaluate models on a task: scores with intervals.", no_args_is_help=True)
    group.command("run")(run)
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("diff")(diff_two)
    group.command("scorers")(list_scorers)
    group.command("start")(start)
    group.command("verify")(verify)
    group.command("export")(export)
    return group


def run(
    task: Annotated[
        str,
        typer.Argument(
            help="A .jsonl or .csv file; a folder or hub id for `datasets` (owner/name:split); `prompts`, "
            "`prompts:held-out` or `prompts:typed`; or `run:ID` for the held-out part of a training run."
        ),
    ],
    models: Annotated[
        str, typer.Option(help="Models, separated by commas; each is compared with the first: `--models before,after`.")
    ],
    scorers: Annotated[
        list[str],
        typer.Option(help="Separated by commas: exact,length:5-40,mine.py:polite. `parley eval scorers` lists them."),
    ],
    name: Annotated[str | None, typer.Option(help="The task's name; by default the file's name.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Your names for columns: `--columns input=utterance,expected=label`.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use only the first N rows.")] = None,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Maximum length of an answer in tokens.")] = _MAX_TOKENS,
    seed: Annotated[int | None, typer.Option(help="Sampling seed, if the server supports it.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight for each model.")] = 32,
    training: Annotated[
        Path | None, typer.Option(help="A training file (chat JSONL): report which questions are in it.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out unreadable rows; the result counts them.")
    ] = False,
    html: HtmlFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask models a task's questions, score the answers, and compare the models.

    Needs a running Parley and, if keys are required, a key in PARLEY_PAGE_KEY. Answers are cached by model, prompt and
    parameters, so an interrupted run resumes, and adding a scorer requests no new answers.

    A row has `input` or `messages`, and optionally `expected`, `topics`, `category`, `id`, `group`, `metadata`.

    Examples:

      parley eval run faq.jsonl --models demo-base,support-friendly --scorers topics,length:5-60

      parley eval run tickets.csv --columns input=text,expected=label --models a,b --scorers exact,cost:0.15/0.60

      parley eval run talks.jsonl --models a,b --scorers judge:gpt-4.1@general

    A row with `turns`, a list of user messages, is a conversation: each turn follows the model's own earlier answers.
    """
    from evals.scorers.catalog import split_names
    from evals.served_runs import EvaluationProgress, evaluate_served
    from evals.tasks.evaluations import TaskRun, load_evaluation
    from evals.tasks.task_sources import open_task

    if temperature < 0 or max_tokens < 1 or concurrency < 1:
        raise Invalid("Temperature must be 0 or more; max-tokens and concurrency 1 or more.", param="parameters")
    parameters = {"temperature": temperature, "max_tokens": max_tokens} | ({} if seed is None else {"seed": seed})
    with open_home() as home:
        samples = open_task(
            task, home.database, home.settings.runs_dir, name=name, columns=_columns(columns or [])
        ).first(limit)
        print_bad_rows(samples, skip_bad, as_json)
        overlap = _contamination(samples, training)
        if overlap and not as_json:
            print_contamination(overlap)
        notes = [f"Compared with the training file {training}: {overlap.summary}"] if overlap else []
        plan = TaskRun(samples, split_commas(models), (), parameters, concurrency, notes)
        with ProgressBar(not as_json) as bar:
            progress = EvaluationProgress(bar.show_answers, bar.show_share, bar.show_line)
            done = evaluate_served(home.settings, home.database, plan, split_names(scorers), progress)
        if not as_json:
            print_timing(done.run.asked, done.run.cached, done.run.seconds)
        _report(load_evaluation(home.database, done.id), None, html, as_json)


def list_all(
    task: Annotated[str | None, typer.Option(help="Only evaluations of the task with this name.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the evaluations, newest first."""
    from evals.tasks.evaluations import list_evaluations

    with open_home() as home:
        entries = list_evaluations(home.database, task)
    if as_json:
        print_json([vars(row) for row in entries])
        return
    if not entries:
        echo("There are no evaluations yet: run `parley eval run TASK --models a,b --scorers exact`.")
        return
    table = folding_table("id", "task", "samples", "models", "scorers", "failed", "when")
    for row in entries:
        when = f"{row.created:%Y-%m-%d %H:%M}" if row.finished else "unfinished: run it again"
        table.add_row(
            row.id[-SHORT_ID:], row.task, str(row.samples), "\n".join(row.models), "\n".join(row.scorers),
            str(row.failed or ""), when,
        )  # fmt: skip
    echo(table)


def show(
    evaluation: EvaluationId = "last",
    models: Annotated[str | None, typer.Option(help="Compare only these, each with the first.")] = None,
    html: HtmlFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an evaluation: means with intervals, by category, differences from the first model, and regressions."""
    from evals.tasks.evaluations import load_evaluation

    with open_home() as home:
        _report(load_evaluation(home.database, evaluation), models, html, as_json)


def diff_two(
    first: Annotated[str, typer.Argument(help="The baseline: an evaluation, or EVALUATION:MODEL.")],
    second: Annotated[str, typer.Argument(help="What to compare with it: an evaluation of the same task, or "
                                               "EVALUATION:MODEL.")],
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Compare two models sample by sample, from one evaluation or from two of the same task, and list regressions.

    Examples:

      parley eval diff last:demo-base last:support-friendly

      parley eval diff 7KQ2M4XA 9ZP1C8RT
    """
    from evals.tasks.summaries import diff
    from evals.tasks.summary_json import diff_json

    with open_home() as home:
        compared = diff([(_side(home, first), _side(home, second))])
    if as_json:
        print_json(diff_json(compared))
        return
    print_diff(compared)


def list_scorers(as_json: JsonFlag = False) -> None:
    """List the scorers by the names that --scorers takes."""
    from evals.scorers.catalog import GROUP, catalog

    if as_json:
        rows = [
            {"name": entry.name, "typed": entry.typed, "help": entry.help, "better": entry.better}
            for entry in catalog()
        ]
        print_json(rows)
        return
    table = folding_table("--scorers", "score of an answer", "better")
    for entry in catalog():
        table.add_row(entry.typed, entry.help, "" if entry.better == "neither" else entry.better)
    table.add_row(
        "file.py:function", "Your own: function(sample, answer) returns a number, True, False or None.", "higher"
    )
    echo(table)
    echo(f"A package can add scorers as entry points of the group {GROUP}.")


def _columns(flags: Sequence[str]) -> dict[str, str]:
    columns = {}
    for part in (part for value in flags for part in split_commas(value)):
        column, equals, source = part.partition("=")
        if not equals or not column or not source:
            raise Invalid(f"{part!r} names no column: write --columns input=YOURS,expected=YOURS.", param="columns")
        columns[column] = source
    return columns


def _contamination(task: "Task", training: Path | None) -> "Contamination | None":
    from evals.tasks.contamination import contamination, read_taught

    return contamination(task.samples, read_taught(training)) if training else None


def _side(home: Home, typed: str) -> "Side":
    from evals.tasks.evaluations import load_evaluation
    from evals.tasks.summaries import Side

    evaluation_id, _, model = typed.partition(":")
    evaluation = load_evaluation(home.database, evaluation_id)
    if model and model not in evaluation.models:
        model = home.registry.resolve(model).id
    if not model and len(evaluation.models) > 1:
        raise Invalid(
            f"The evaluation {evaluation_id} has {len(evaluation.models)} models: name one, such as "
            f"{evaluation_id}:{evaluation.models[0]}.",
            param="evaluation",
        )
    if model and model not in evaluation.models:
        raise Invalid(f"{model!r} is not in {evaluation_id}: it has {', '.join(evaluation.models)}.", param="models")
    return Side(evaluation, model or evaluation.models[0])


def _report(evaluation: "Evaluation", models: str | None, html: Path | None, as_json: bool) -> None:
    from evals.reports.evaluation_html import write_report
    from evals.tasks.summaries import against_first, diff, overview
    from evals.tasks.summary_json import overview_json

    means = overview(evaluation)
    pairs = against_first(evaluation, split_commas(models) or None)
    compared = diff(pairs) if pairs else None
    if html:
        write_report(html, evaluation, means, compared)
    if as_json:
        print_json(overview_json(evaluation, means, compared))
        return
    print_overview(evaluation, means)
    if compared:
        print_diff(compared)
    for note in evaluation.notes:
        echo(f"Note: {note}")
    echo(
        f"Evaluation {evaluation.id[-SHORT_ID:]} of {evaluation.task} ({evaluation.task_hash[:8]})."
        + (f" Report: {html}" if html else "")
    )
