"""`parley data …`: the group, and its commands check, convert and split. Each loads its work when it runs.

`money_commands` (count, price, plan, synthesise, advise) hangs its commands on the same group by a line at the end of
`data_commands`.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from rich.console import Console

    from train.data.conversations import Problem
    from train.data.readers import Columns
    from train.data.reports import CheckedData

_FIRST_LINES = 4  # how many line numbers a grouped problem shows
_DATA = "Training data: .jsonl, .json, .csv, .tsv, .parquet, a folder, or a hub data set (owner/name)."

File = Annotated[str, typer.Argument(help=_DATA, show_default=False)]
Format = Annotated[
    str,
    typer.Option(
        help="auto, openai, openai-preference, preference, sharegpt, turns, alpaca, prompt-completion or "
        "question-answer.",
        rich_help_panel="Reading",
    ),
]
PromptColumn = Annotated[str, typer.Option(help="Tables: the column with the question.", rich_help_panel="Reading")]
ResponseColumn = Annotated[str, typer.Option(help="Tables: the column with the answer.", rich_help_panel="Reading")]
SystemColumn = Annotated[
    str | None, typer.Option(help="Tables: a column with the system message.", rich_help_panel="Reading")
]
System = Annotated[
    str | None, typer.Option(help="A system message for conversations that have none.", rich_help_panel="Reading")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that are there.")]
PerTurn = Annotated[
    bool, typer.Option("--per-turn", help="One example for each answer, with the whole context before it.")
]


def data_commands() -> typer.Typer:
    """The `data` group, for `train.cli` to hang on the app."""
    from train.planning.commands import add_money_commands  # here: it takes its reading options from this file

    app = typer.Typer(name="data", help="Look at training data before it costs time or money.", no_args_is_help=True)
    app.command("check")(check_command)
    app.command("convert")(convert_command)
    app.command("split")(split_command)
    add_money_commands(app)
    return app


def check_command(
    data: File,
    validation: Annotated[
        str | None, typer.Option(help="Validation data: checked too, and held against the training data for leaks.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail (exit code 1) on warnings too.")] = False,
    provider: Annotated[
        str, typer.Option(help="Who will train: openai (fewer than 10 examples are an error), together or local.")
    ] = "openai",
    max_tokens: Annotated[
        int | None, typer.Option(help="Tokens an example may have; counted for --model.", min=1)
    ] = None,
    model: Annotated[
        str, typer.Option(help="The model whose tokens --max-tokens counts: of OpenAI, registered, a folder or hub id.")
    ] = "gpt-4o-mini",
    each: Annotated[bool, typer.Option("--all", help="List every problem, not every kind.")] = False,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with training data: each problem with its line, how bad it is, and what mends it.

    Errors (a line that cannot be learnt from) end with exit code 1; warnings do so with --strict. A broken line never
    stops the others.

      parley data check tickets.jsonl

      parley data check train.jsonl --validation held-out.jsonl --strict

      parley data check faq.csv --prompt-column question --response-column answer
    """
    from train.data.checks import check

    if provider not in ("openai", "together", "local"):
        raise Invalid(f"--provider is {provider!r}: use openai, together or local.", param="provider")
    columns = _columns(prompt_column, response_column, system_column, system)
    report = check(data, columns, format=format, provider=provider, validation=validation)  # type: ignore[arg-type]  # it checks them
    if max_tokens:
        report = _limited(report, model, max_tokens)
    if as_json:
        typer.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _show_report(report, each)
    if not report.passes(strict):
        raise typer.Exit(1)


def convert_command(
    data: File,
    out: Annotated[Path, typer.Argument(help="The JSONL file to write.", show_default=False)],
    per_turn: PerTurn = False,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Keep the other fields of each row, under `metadata`.")
    ] = False,
    force: Force = False,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Write any known data as OpenAI's chat JSONL (preference pairs as its preference rows).

    parley data convert sharegpt.json train.jsonl

    parley data convert faq.parquet train.jsonl --prompt-column question --response-column answer --metadata
    """
    from train.data.conversion import convert

    columns = _columns(prompt_column, response_column, system_column, system)
    made = convert(data, out, columns, format=format, per_turn=per_turn, metadata=metadata, force=force)
    if as_json:
        typer.echo(json.dumps(made.as_json(), ensure_ascii=False))
        return
    console = _console()
    _show_problems(console, made.problems, False)
    console.print(
        f"{made.written:,} rows from {made.lines:,} lines ({made.format or 'no known format'}), "
        f"{made.left_out:,} left out: [bold]{_escaped(made.path)}[/bold]"
    )


def split_command(
    data: File,
    share: Annotated[float, typer.Option(help="The share to hold out: 0.1 to 0.2 as a rule.")] = 0.1,
    by: Annotated[
        str | None, typer.Option(help="A field of the rows (a category, say) of which each value gets the same share.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    train: Annotated[
        Path | None, typer.Option(help="The file to write; NAME.train.jsonl without it.", show_default=False)
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="The file to write; NAME.validation.jsonl without it.", show_default=False)
    ] = None,
    force: Force = False,
    format: Format = "auto",  # noqa: A002 -- the flag's name
    prompt_column: PromptColumn = "prompt",
    response_column: ResponseColumn = "response",
    system_column: SystemColumn = None,
    system: System = None,
    as_json: AsJson = False,
) -> None:
    """Divide data into training and validation, by seed and evenly by a field; what is alike stays on one side.

    Copies, near copies and the same question are never divided. Lines with errors are told and left out.

      parley data split tickets.jsonl --share 0.15 --by category
    """
    from train.data.conversion import refuse_taken
    from train.data.split_files import split_files

    name = Path(data.partition(":")[0]).name
    stem = name.rpartition(".")[0] or name
    paths = (train or Path(f"{stem}.train.jsonl"), validation or Path(f"{stem}.validation.jsonl"))
    refuse_taken(paths, force)
    columns = _columns(prompt_column, response_column, system_column, system)
    made = split_files(data, *paths, share=share, seed=seed, by=by, columns=columns, format=format)
    if as_json:
        typer.echo(json.dumps(made.as_json(), ensure_ascii=False))
        return
    from rich.table import Table

    console = _console()
    _show_problems(console, made.problems, False)
    table = Table("", "training", "validation", "share", box=None, header_style="bold")
    for value, (learnt, held) in made.strata.items():
        table.add_row(
            _escaped(value) or "[dim](none)[/dim]", f"{learnt:,}", f"{held:,}", f"{held / (learnt + held):.1%}"
        )
    whole = made.train_rows + made.validation_rows
    held_share = made.validation_rows / whole if whole else 0.0
    table.add_row("all", f"{made.train_rows:,}", f"{made.validation_rows:,}", f"{held_share:.1%}", style="bold")
    console.print(table)
    console.print(f"[bold]{_escaped(paths[0])}[/bold] and [bold]{_escaped(paths[1])}[/bold]")


def _columns(prompt: str, response: str, system_column: str | None, system: str | None) -> "Columns":
    from train.data.readers import Columns

    return Columns(prompt, response, system_column, system)


def _limited(report: "CheckedData", model: str, limit: int) -> "CheckedData":
    """The report, with what is over the limit in the model's own tokens."""
    from models.database import open_database
    from models.errors import Unavailable
    from models.registry import Registry
    from models.settings import load_settings
    from train.data.checks import hold_to_limit
    from train.planning.counting import count

    if not report.examples:
        return report
    database = open_database(load_settings())
    try:
        database.check_current()
        registry = Registry(database)
    except Unavailable:
        registry = None  # no home yet: then no model is registered, and OpenAI's are counted all the same
    try:
        counts = count(report, model, registry=registry, limit=limit)
    finally:
        database.dispose()
    tokens = {length.line: length.tokens for length in counts.lengths}
    return hold_to_limit(report, tokens, limit, counts.way == "estimate")


def _show_report(report: "CheckedData", each: bool, called: str = "") -> None:
    from rich.table import Table

    console = _console()
    _show_problems(console, report.problems, each)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row(called or "data", f"{_escaped(report.source)} ({report.format or 'no known format'})")
    what = "preference pairs" if report.preferences else "examples"
    number = len(report.examples) + len(report.preferences)
    table.add_row("lines", f"{report.lines:,}: [bold]{number:,} {what}[/bold], {report.left_out:,} left out")
    for unit, values in (("turns", report.turns), ("characters", report.characters)):
        if values:
            middle = sorted(values)[len(values) // 2]
            table.add_row(unit, f"{min(values):,} to {max(values):,}, {middle:,} in the middle")
    verdict = "[green]ready[/green]" if report.passes(True) else "[yellow]usable, with warnings[/yellow]"
    if report.errors:
        verdict = "[red]has errors[/red]" if report.usable else "[red]cannot be trained on[/red]"
    table.add_row("verdict", f"{verdict}: {_some(report.errors, 'error')}, {_some(report.warnings, 'warning')}")
    console.print(table)
    if report.validation:
        console.print()
        _show_report(report.validation, each, "validation")


def _show_problems(console: "Console", problems: "tuple[Problem, ...]", each: bool) -> None:
    """Each kind once, with its first lines; or each problem."""
    from rich.table import Table

    if not problems:
        return
    groups: dict[tuple[Any, ...], list[Problem]] = defaultdict(list)
    for place, problem in enumerate(problems):
        groups[(place,) if each else (problem.code, problem.severity, problem.mend)].append(problem)
    rows = list(groups.values())
    if not each:
        rows.sort(key=lambda group: (group[0].severity != "error", -len(group)))
    table = Table("lines", "", "what is wrong", "what to do", box=None, header_style="bold", pad_edge=False)
    table.columns[0].min_width, table.columns[1].no_wrap = 5, True
    for group in rows:
        first = group[0]
        colour = "red" if first.severity == "error" else "yellow"
        # Escaped: a message quotes the data, and a role of "[/b]" would be taken for markup.
        wrong = f"{_escaped(first.message)} [dim]{first.code}[/dim]"
        table.add_row(_lines(group), f"[{colour}]{first.severity}[/{colour}]", wrong, _escaped(first.mend))
    console.print(table)
    if not each and len(problems) > len(rows):
        kinds = "one kind" if len(rows) == 1 else f"{len(rows)} kinds"
        console.print(f"[dim]{len(problems):,} problems of {kinds}; --all lists each.[/dim]")
    console.print()


def _lines(group: "list[Problem]") -> str:
    numbers = [f"{problem.line:,}" if problem.line else "all" for problem in group[:_FIRST_LINES]]
    more = f" [dim]and {len(group) - _FIRST_LINES:,} more[/dim]" if len(group) > _FIRST_LINES else ""
    return ", ".join(numbers) + more


def _some(problems: "tuple[Problem, ...]", what: str) -> str:
    return f"{len(problems):,} {what}{'' if len(problems) == 1 else 's'}"


def _escaped(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)
