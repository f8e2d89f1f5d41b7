"""`parley votes import`: the options, the question if files overlap, and the report."""

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from evals.commands.flags import JsonFlag, split_commas
from evals.reports.terminal import ProgressBar, echo
from models.errors import Invalid
from models.terminal import open_home, print_json

if TYPE_CHECKING:
    from evals.votes.imports.options import ImportOptions
    from evals.votes.vote_import import ImportResult
    from models.database import Database

_MAX_BAD_ROWS = 20  # the rest are counted

_FILE = typer.Argument(help="A CSV, JSON, JSONL, FastChat log or battles, or Open WebUI feedback export.")
_FORM = typer.Option("--format", help="csv, jsonl, fastchat, openwebui, labelstudio or argilla; detected by default.")
_COLUMNS = typer.Option(
    "--columns",
    help="Your names for columns in a CSV or JSONL: `--columns model_a=left_bot,prompt=task`. The columns are model_a, "
    "model_b, winner, prompt, messages, answer_a, answer_b, voter, category, id, created; for preference pairs chosen, "
    "rejected, chosen_model, rejected_model.",
)
_OWN_PROMPT = typer.Option(help="Treat each vote as a prompt of its own, if the file has no prompts.")
_WINNER = typer.Option(
    "--winner",
    help="What your words for the winner mean: `--winner same=tie,bot1=model_a` (model_a, model_b, tie or both_bad).",
)
_SCALE = typer.Option(help="The scale of graded preferences, from model_a's side to model_b's: 1..5, -3..3 or 5..1.")
_ANNOTATORS = typer.Option(help="Columns that have one person's winner each: `--annotators ann,bob` or `'rater_*'`.")
_SEPARATOR = typer.Option(help="The character between cells; detected by default.")
_ENCODING = typer.Option(
    help="The file's encoding, such as cp1252; by default UTF-8, or UTF-16 if the file has a byte order mark."
)
_NO_ID = typer.Option("--no-id", help="Ignore the id column: every row counts.")
_ANY_DATE = typer.Option("--any-date", help="Accept dates before 2015 and after tomorrow.")
_OVERLAP = typer.Option(
    help="What to do with votes that equal those of an earlier file: count them too (keep), or leave them out (drop)."
)
_PARTIAL = typer.Option("--partial", help="Exit with status 0 even if some rows cannot be read.")
_CAMPAIGN = typer.Option(help="The campaign to add the votes to.")


def import_file(
    file: Annotated[Path, _FILE],
    form: Annotated[str | None, _FORM] = None,
    columns: Annotated[list[str] | None, _COLUMNS] = None,
    each_its_own_prompt: Annotated[bool, _OWN_PROMPT] = False,
    winner: Annotated[list[str] | None, _WINNER] = None,
    scale: Annotated[str | None, _SCALE] = None,
    annotators: Annotated[str | None, _ANNOTATORS] = None,
    separator: Annotated[str | None, _SEPARATOR] = None,
    encoding: Annotated[str | None, _ENCODING] = None,
    no_id: Annotated[bool, _NO_ID] = False,
    any_date: Annotated[bool, _ANY_DATE] = False,
    overlap: Annotated[Literal["keep", "drop"] | None, _OVERLAP] = None,
    partial: Annotated[bool, _PARTIAL] = False,
    campaign: Annotated[str, _CAMPAIGN] = "open",
    as_json: JsonFlag = False,
) -> None:
    """Import votes from another tool. Importing the same file again adds nothing.

    Rows that are not votes are counted, and rows that cannot be read are listed with their line; the others are stored.
    A CSV needs model_a, model_b, winner (model_a, model_b, tie, both_bad) and a prompt or a prompt's name; answers,
    voter, category and time are optional. Columns winner_model_a, winner_model_b, winner_tie, a column per annotator,
    and chosen with rejected are read too. To continue an interrupted import, import the file again.

    Examples:

      parley votes import battles.json

      parley votes import ours.csv --columns model_a=left_bot,model_b=right_bot,prompt=task --winner same=tie

      parley votes import graded.csv --scale 1..5 --annotators 'rater_*' --campaign spring
    """
    from typing import cast

    from evals.votes.imports.choices import parse_scale, parse_words
    from evals.votes.imports.options import ImportOptions, VoteFormat

    options = ImportOptions(
        form=cast(VoteFormat | None, form),
        columns=_named(columns, "--columns"),
        each_its_own_prompt=each_its_own_prompt,
        winners=parse_words(_named(winner, "--winner")),
        scale=parse_scale(scale) if scale else None,
        annotators=tuple(split_commas(annotators)),
        separator=separator.replace("\\t", "\t") if separator else None,
        encoding=encoding,
        use_ids=not no_id,
        any_date=any_date,
        overlap=overlap,
        campaign=campaign,
    )
    with open_home() as home:
        result = _import(home.database, file, options, quiet=as_json)
    if as_json:
        print_json(asdict(result))
    else:
        _report(result, file.name)
    if result.bad and not result.new + result.known + result.dropped:
        raise Invalid(f"{file.name} contains no votes.", param="file")
    if result.is_partial and not partial:
        raise typer.Exit(1)


def _import(database: "Database", file: Path, options: "ImportOptions", *, quiet: bool) -> "ImportResult":
    """Imports the file; if it overlaps an earlier one, asks on a terminal."""
    from evals.votes.vote_import import Overlap, import_votes

    asks = sys.stdin.isatty() and sys.stderr.isatty() and not quiet
    with ProgressBar(shown=sys.stdout.isatty() and not quiet) as bar:
        report = _progress(bar)
        try:
            return import_votes(database, file, options, report)
        except Overlap as overlap:
            if not asks:
                raise
            question = str(overlap)
    typer.echo(question, err=True)
    keep = typer.confirm("Count them too?", default=False, err=True)
    with ProgressBar(shown=sys.stdout.isatty()) as bar:
        return import_votes(database, file, replace(options, overlap="keep" if keep else "drop"), _progress(bar))


def _progress(bar: ProgressBar) -> Callable[[int, int], None]:
    return lambda done, total: bar.show_share(done / max(total, 1), f"{done:,} of {total:,} votes")


def _report(result: "ImportResult", name: str) -> None:
    if result.is_partial:
        unread = len(result.bad)
        echo(f"Partial: {unread} of {result.rows} rows of {name} could not be read.")
    known = f", {result.known} were already stored" if result.known else ""
    dropped = f", {result.dropped} left out as votes of an earlier file" if result.dropped else ""
    campaign = "" if result.campaign == "open" else f" in the campaign {result.campaign}"
    echo(f"{result.new} new votes from {name} ({result.format}){campaign}{known}{dropped}.")
    for what, times in result.skipped.items():
        echo(f"· {times} skipped: {what}.")
    if result.changed:
        lines = ", ".join(map(str, result.changed[:_MAX_BAD_ROWS]))
        echo(f"· {len(result.changed)} are already stored with another choice, which stays: line {lines}.")
    for bad in result.bad[:_MAX_BAD_ROWS]:
        echo(f"· line {bad.line}: {bad.reason}")
    if len(result.bad) > _MAX_BAD_ROWS:
        echo(f"· and {len(result.bad) - _MAX_BAD_ROWS} more such lines; --json lists them all")
    for note in result.notes:
        echo(f"Note: {note}")
    if result.import_id is not None:
        echo(f"To remove these votes: parley votes undo {result.import_id}")


def _named(values: list[str] | None, flag: str) -> dict[str, str]:
    pairs = [part.rpartition("=") for value in values or [] for part in split_commas(value)]
    if wrong := next((part for part in pairs if not (part[0].strip() and part[2].strip())), None):
        raise Invalid(f"{flag} takes name=value, not {''.join(wrong)!r}.", param=flag.removeprefix("--"))
    return {name.strip(): value.strip() for name, _, value in pairs}
