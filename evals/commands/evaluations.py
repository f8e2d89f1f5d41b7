"""`parley eval run`, `list`, `show`, `diff` and `scorers`: models on a task, scored, with intervals. Printing only.

What they print comes from `evals.served_runs`, `evaluations` and `summaries`; nothing heavy is loaded before one runs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evals.reports.evaluation_terminal import (
    Bar,
    say,
    tell_asking,
    tell_bad_rows,
    tell_diff,
    tell_overlap,
    tell_overview,
)
from models.errors import Invalid

if TYPE_CHECKING:
    from evals.tasks.contamination import Contamination
    from evals.tasks.evaluations import Evaluation
    from evals.tasks.task import Task

_MAX_TOKENS = 512
_SHORT_ID = 8

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report into this file: one file, no network.")]
Which = Annotated[str, typer.Argument(help="An evaluation: its id, the end of it, or `last`.")]


def eval_group() -> typer.Typer:
    """The commands under `parley eval`."""
    group = typer.Typer(help="Models on a task, scored, with intervals.", no_args_is_help=True)
    group.command("run")(run)
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("diff")(diff_two)
    group.command("scorers")(list_scorers)
    return group


def run(
    task: Annotated[
        str,
        typer.Argument(
            help="A .jsonl or .csv; a folder or hub id for `datasets` (owner/name:split); `prompts`, "
            "`prompts:held-out` or `prompts:typed`; `run:ID`, what a training held out."
        ),
    ],
    models: Annotated[
        str,
        typer.Option(help="The models, with commas; all are held against the first: `--models before,after`."),
    ],
    scorers: Annotated[
        list[str], typer.Option(help="With commas: exact,length:5-40,mine.py:polite. `parley eval scorers` lists them.")
    ],
    name: Annotated[str | None, typer.Option(help="What the task is called; the file's name without it.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Which column is which: `--columns input=utterance,expected=label`.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many samples, the first.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest word each time.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = _MAX_TOKENS,
    seed: Annotated[int | None, typer.Option(help="For a temperature above 0, where the server knows seeds.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight for each model.")] = 32,
    training: Annotated[
        Path | None, typer.Option(help="A training file (chat JSONL): which questions are in it, copied or nearly?")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable rows out, and say so in the result.")
    ] = False,
    html: Html = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask models a task's questions, score the answers, and compare the models.

    Needs a running Parley, and where keys are on, one in PARLEY_PAGE_KEY. Answers are kept by model, prompt and
    parameters: a run that was stopped goes on, and new scorers ask nothing again.

    Each row has `input` or `messages`, and as needed `expected`, `topics`, `category`, `id`, `group`, `metadata`.

    Examples:

      parley eval run faq.jsonl --models demo-base,support-friendly --scorers topics,length:5-60

      parley eval run tickets.csv --columns input=text,expected=label --models a,b --scorers exact,cost:0.15/0.60

      parley eval run talks.jsonl --models a,b --scorers judge:gpt-4.1@general

    A row with `turns`, a list of what the user says, is asked turn by turn, each after the model's own answers.
    """
    from evals.scorers.catalog import split_names
    from evals.served_runs import evaluate_served
    from evals.tasks.evaluations import load_evaluation
    from evals.tasks.task_sources import open_task
    from models.cli import opened

    settings, database = opened()
    chosen = [part.strip() for part in models.split(",") if part.strip()]
    if temperature < 0 or max_tokens < 1 or concurrency < 1:
        raise Invalid("Temperature is 0 or more; max-tokens and concurrency are 1 or more.", param="parameters")
    found = open_task(task, database, settings.runs_dir, name=name, columns=_columns(columns or [])).first(limit)
    tell_bad_rows(found, skip_bad, as_json)
    overlap = _contamination(found, training)
    if overlap and not as_json:
        tell_overlap(overlap)
    parameters = {"temperature": temperature, "max_tokens": max_tokens} | ({} if seed is None else {"seed": seed})
    with Bar(not as_json) as bar:
        made = evaluate_served(
            settings,
            database,
            found,
            chosen,
            split_names(scorers),
            parameters,
            concurrency=concurrency,
            progress=bar.tell,
            scoring=bar.tell_scoring,
            notes=[f"Held against {training}: {overlap.words}"] if overlap else [],
        )
    if not as_json:
        tell_asking(made.run.asked, made.run.cached, made.run.seconds)
    _report(load_evaluation(database, made.id), None, html, as_json)


def list_all(
    task: Annotated[str | None, typer.Option(help="Only of the task of this name.")] = None, as_json: JsonFlag = False
) -> None:
    """List the evaluations, newest first."""
    from rich.table import Column, Table

    from evals.tasks.evaluations import list_evaluations

    found = list_evaluations(_database(), task)
    if as_json:
        typer.echo(json.dumps([vars(row) for row in found], default=str, ensure_ascii=False))
        return
    if not found:
        say("Nothing was evaluated yet: `parley eval run TASK --models a,b --scorers exact`.")
        return
    names = (Column(name, overflow="fold") for name in ("task", "samples", "models", "scorers", "failed", "when"))
    table = Table(Column("id", no_wrap=True, min_width=_SHORT_ID), *names, box=None, header_style="bold")
    for row in found:
        when = f"{row.created:%Y-%m-%d %H:%M}" if row.finished else "unfinished: run it again"
        table.add_row(
            row.id[-_SHORT_ID:], row.task, str(row.samples), "\n".join(row.models), "\n".join(row.scorers),
            str(row.failed or ""), when,
        )  # fmt: skip
    say(table)


def show(
    evaluation: Which = "last",
    models: Annotated[str | None, typer.Option(help="Compare these only, the first against the others.")] = None,
    html: Html = None,
    as_json: JsonFlag = False,
) -> None:
    """Show an evaluation: means with intervals, by category, the first model against each other, what got worse."""
    from evals.tasks.evaluations import load_evaluation

    _report(load_evaluation(_database(), evaluation), models, html, as_json)


def diff_two(
    first: Annotated[str, typer.Argument(help="What it is held against: an evaluation, or EVALUATION:MODEL.")],
    second: Annotated[str, typer.Argument(help="What is asked about: another of the same task, or EVALUATION:MODEL.")],
    as_json: JsonFlag = False,
) -> None:
    """Compare two models, from two evaluations of one task or from one, sample by sample; list what got worse.

    Examples:

      parley eval diff last:demo-base last:support-friendly

      parley eval diff 7KQ2M4XA 9ZP1C8RT
    """
    from evals.tasks.summaries import diff, diff_json

    found = diff([(_side(first), _side(second))])
    if as_json:
        typer.echo(json.dumps(diff_json(found), ensure_ascii=False))
        return
    tell_diff(found)


def list_scorers(as_json: JsonFlag = False) -> None:
    """List the scorers by the names that --scorers takes, with what each needs of a sample."""
    from rich.table import Table

    from evals.scorers.catalog import GROUP, kinds

    if as_json:
        rows = [{"name": kind.name, "typed": kind.typed, "help": kind.help, "better": kind.better} for kind in kinds()]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("--scorers", "what it says of an answer", "better", box=None, header_style="bold")
    for kind in kinds():
        table.add_row(kind.typed, kind.help, "" if kind.better == "neither" else kind.better)
    table.add_row(
        "file.py:function", "Your own: function(sample, answer) gives a number, True, False or None.", "higher"
    )
    say(table)
    say(f"Own scorers can also be installed, as entry points of the group {GROUP}.")


def _columns(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for part in (part.strip() for value in given for part in value.split(",")):
        ours, equals, theirs = part.partition("=")
        if not equals or not ours or not theirs:
            raise Invalid(f"{part!r} names no column: write --columns input=THEIRS,expected=THEIRS.", param="columns")
        found[ours] = theirs
    return found


def _contamination(task: "Task", training: Path | None) -> "Contamination | None":
    from evals.tasks.contamination import contamination, read_taught

    return contamination(task.samples, read_taught(training)) if training else None


def _side(typed: str) -> Any:
    from evals.tasks.evaluations import load_evaluation
    from evals.tasks.summaries import Side

    which, _, model = typed.partition(":")
    evaluation = load_evaluation(_database(), which)
    if model and model not in evaluation.models:
        from models.registry import Registry

        model = Registry(_database()).resolve(model).id
    if not model and len(evaluation.models) > 1:
        raise Invalid(
            f"The evaluation {which} has {len(evaluation.models)} models: say which, {which}:{evaluation.models[0]}.",
            param="evaluation",
        )
    if model and model not in evaluation.models:
        raise Invalid(f"{model!r} is not in {which}: it has {', '.join(evaluation.models)}.", param="models")
    return Side(evaluation, model or evaluation.models[0])


def _report(evaluation: "Evaluation", models: str | None, html: Path | None, as_json: bool) -> None:
    from evals.reports.evaluation_html import write_report
    from evals.tasks.summaries import against_first, diff, overview, overview_json

    chosen = [part.strip() for part in models.split(",") if part.strip()] if models else None
    found = overview(evaluation)
    pairs = against_first(evaluation, chosen)
    compared = diff(pairs) if pairs else None
    if html:
        write_report(html, evaluation, found, compared)
    if as_json:
        typer.echo(json.dumps(overview_json(evaluation, found, compared), ensure_ascii=False))
        return
    tell_overview(evaluation, found)
    if compared:
        tell_diff(compared)
    for note in evaluation.notes:
        say(f"Note: {note}")
    say(
        f"Evaluation {evaluation.id[-_SHORT_ID:]} of {evaluation.task} ({evaluation.task_hash[:8]})."
        + (f" Report: {html}" if html else "")
    )


def _database() -> Any:
    from models.cli import opened

    return opened()[1]
