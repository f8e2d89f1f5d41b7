"""`parley votes import` and `parley votes export`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from evals.commands.flags import JsonFlag, split_commas
from evals.reports.terminal import say
from models.errors import Invalid
from models.terminal import open_home

_MAX_BAD_ROWS = 20  # the rest are counted

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="Your names for columns in a CSV or JSONL: `--columns model_a=left_bot,prompt=task`. The columns are "
        "model_a, model_b, winner, prompt, messages, answer_a, answer_b, voter, category, id, created.",
    ),
]


def votes_group() -> typer.Typer:
    """The commands under `parley votes`."""
    group = typer.Typer(help="Import and export people's votes.", no_args_is_help=True)
    group.command("import")(import_file)
    group.command("export")(export_file)
    return group


def import_file(
    file: Annotated[
        Path, typer.Argument(help="A CSV or JSONL file, a FastChat log or battles, or an Open WebUI feedback export.")
    ],
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, fastchat or openwebui; detected by default.")
    ] = None,
    columns: Columns = None,
    each_its_own_prompt: Annotated[
        bool, typer.Option(help="Treat each vote as a prompt of its own if the file has no prompts.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Import votes from another tool. Importing the same file again adds nothing.

    Rows that are not votes are counted, rows that cannot be read are listed with their line, and all others are stored.
    A CSV needs model_a, model_b, winner (model_a, model_b, tie, both_bad) and a prompt or a prompt's name; answers,
    voter, category and time are optional.

    Examples:

      parley votes import battles.json

      parley votes import ours.csv --columns model_a=left_bot,model_b=right_bot,prompt=task
    """
    from evals.votes.import_formats import VoteFormat
    from evals.votes.vote_import import import_votes

    with open_home() as home:
        result = import_votes(
            home.database,
            file,
            form=cast(VoteFormat | None, form),
            columns=_named_columns(columns),
            each_its_own_prompt=each_its_own_prompt,
        )
    if as_json:
        typer.echo(json.dumps(asdict(result), ensure_ascii=False))
        return
    duplicates = f", {result.known} were already stored" if result.known else ""
    say(f"{result.new} new votes from {file.name} ({result.format}){duplicates}.")
    for kind, count in result.skipped.items():
        say(f"· {count} skipped: {kind}.")
    if result.changed:
        lines = ", ".join(map(str, result.changed[:_MAX_BAD_ROWS]))
        say(f"· {len(result.changed)} are already stored with another choice, which is kept: line {lines}.")
    for bad in result.bad[:_MAX_BAD_ROWS]:
        say(f"· line {bad.line}: {bad.reason}")
    if len(result.bad) > _MAX_BAD_ROWS:
        say(f"· and {len(result.bad) - _MAX_BAD_ROWS} more such lines; --json lists them all")
    for note in result.notes:
        say(f"Note: {note}")
    if result.bad and not result.new + result.known:
        raise Invalid(f"No row of {file.name} is a vote.", param="file")


def export_file(
    file: Annotated[Path, typer.Argument(help=".csv, .jsonl, .parquet, or a new folder for `datasets`.")],
    preferences: Annotated[
        bool, typer.Option("--preferences", help="Preference pairs for TRL: prompt, chosen, rejected, as messages.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet or datasets; by default from the file's ending.")
    ] = None,
) -> None:
    """Write the votes to a file, or with `--preferences` the pairs that a preference trainer loads.

    Preference pairs are the majority's choices, without ties and without held-out prompts. Exported votes can be
    imported again.

    Examples:

      parley votes export votes.csv

      parley votes export pairs.jsonl --preferences
    """
    from evals.votes.preference_pairs import export_preferences
    from evals.votes.vote_export import ExportFormat, vote_rows, write_rows

    kind = cast(ExportFormat | None, form)
    with open_home() as home:
        if preferences:
            say(f"{export_preferences(home.database, file, kind)} preference pairs written to {file}.")
        else:
            say(f"{write_rows(vote_rows(home.database), file, kind)} votes written to {file}.")


def _named_columns(columns: list[str] | None) -> dict[str, str]:
    pairs = [part.partition("=") for value in columns or [] for part in split_commas(value)]
    if wrong := next((name for name, equals, column in pairs if not (equals and column.strip())), None):
        raise Invalid(f"--columns takes name=column, not {wrong!r}.", param="columns")
    return {name.strip(): column.strip() for name, _, column in pairs}
