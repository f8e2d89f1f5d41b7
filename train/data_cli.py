"""The `parley data` group: the commands of train/data and train/planning, and `check`, which needs both."""

from typing import TYPE_CHECKING, Annotated

import typer

from models.command_options import expand_options
from models.errors import Invalid
from models.terminal import console, print_json
from train.data.commands import advise_command, convert_command, split_command
from train.data.completions_command import from_completions_command
from train.data.options import AsJson, DataArgument, ReadingOptions
from train.data.synthesis_command import synthesise_command
from train.planning.commands import count_command, optional_home, plan_command, price_command

if TYPE_CHECKING:
    from train.data.reports import CheckedData


def data_commands() -> typer.Typer:
    """The `data` group, for `train.cli` to add to the app."""
    app = typer.Typer(
        name="data", help="Check, convert, count and price training data before you train on it.", no_args_is_help=True
    )
    app.command("check")(check_command)
    app.command("convert")(convert_command)
    app.command("split")(split_command)
    app.command("count")(count_command)
    app.command("price")(price_command)
    app.command("plan")(plan_command)
    app.command("synthesise")(synthesise_command)
    app.command("from-completions")(from_completions_command)
    app.command("advise")(advise_command)
    return app


@expand_options
def check_command(
    data: DataArgument,
    reading: ReadingOptions,
    validation: Annotated[
        str | None, typer.Option(help="Validation data: checked too, and compared with the training data for leaks.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail (exit code 1) on warnings too.")] = False,
    provider: Annotated[
        str,
        typer.Option(help="Where you will train: openai (fewer than 10 examples are an error), together or local."),
    ] = "openai",
    max_tokens: Annotated[
        int | None, typer.Option(help="The most tokens an example may have, counted for --model.", min=1)
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="The model whose tokens are counted: an OpenAI model, a registered one, a folder or hub id."),
    ] = "gpt-4o-mini",
    all_problems: Annotated[bool, typer.Option("--all", help="List every problem, not only each kind.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check training data: each problem with its line, its severity and what to do about it.

    The exit code is 1 if a line has an error; with --strict, if it has a warning. A broken line does not stop the
    check.

      parley data check tickets.jsonl

      parley data check train.jsonl --validation held-out.jsonl --strict

      parley data check faq.csv --prompt-column question --response-column answer
    """
    from train.data.checks import check
    from train.data.display import show_report

    if provider not in ("openai", "together", "local"):
        raise Invalid(f"--provider is {provider!r}: use openai, together or local.", param="provider")
    report = check(data, reading.columns, format=reading.format, provider=provider, validation=validation)  # type: ignore[arg-type]  # checked above
    if max_tokens:
        report = _with_token_limit(report, model, max_tokens)
    if as_json:
        print_json(report.to_json())
    else:
        show_report(console(), report, all_problems=all_problems)
    if not report.passes(strict):
        raise typer.Exit(1)


def _with_token_limit(report: "CheckedData", model: str, limit: int) -> "CheckedData":
    """The report, with the examples that are over the limit in the model's own tokens."""
    from train.data.checks import apply_token_limit
    from train.planning.token_counts import count

    if not report.examples:
        return report
    with optional_home() as (_, registry):
        counts = count(report, model, registry=registry, limit=limit)
    tokens = {length.line: length.tokens for length in counts.lengths}
    return apply_token_limit(report, tokens, limit, counts.way == "estimate")
