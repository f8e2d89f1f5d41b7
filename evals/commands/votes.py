"""`parley votes`: import, export, and corrections of imports, voters and models' names."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from evals.commands.flags import JsonFlag
from evals.commands.vote_import import import_file
from evals.reports.terminal import echo, folding_table
from models.errors import Invalid
from models.terminal import open_home, print_json

_Voter = Annotated[str, typer.Argument(help="The voter's id, as in an export.")]


def votes_group() -> typer.Typer:
    """The commands under `parley votes`."""
    group = typer.Typer(help="Import and export people's votes, and correct what was imported.", no_args_is_help=True)
    group.command("import")(import_file)
    group.command("imports")(show_imports)
    group.command("undo")(undo)
    group.command("exclude")(exclude)
    group.command("include")(include)
    group.command("excluded")(show_excluded)
    group.command("merge")(merge)
    group.command("export")(export_file)
    return group


def show_imports(as_json: JsonFlag = False) -> None:
    """List the imports, oldest first."""
    from evals.votes.imports.history import list_imports

    with open_home() as home:
        imports = list_imports(home.database)
    if as_json:
        print_json([asdict(row) for row in imports])
        return
    table = folding_table("import", "file", "format", "campaign", "votes", "state", "created")
    for row in imports:
        state = "undone" if row.undone else "complete" if row.complete else "not complete: import the file again"
        created = f"{row.created:%Y-%m-%d %H:%M}"
        table.add_row(row.id, row.filename, row.format, row.campaign or "", str(row.votes), state, created)
    echo(table if imports else "No votes have been imported yet.")


def undo(
    import_id: Annotated[str, typer.Argument(metavar="IMPORT", help="The import's id: see `parley votes imports`.")],
) -> None:
    """Remove the votes of an import. The same file can be imported again afterwards."""
    from evals.votes.imports.history import undo_import

    with open_home() as home:
        echo(f"{undo_import(home.database, import_id)} votes were removed.")


def exclude(
    voter: _Voter, reason: Annotated[str, typer.Option(help="The reason, shown by `parley votes excluded`.")] = ""
) -> None:
    """Exclude a voter: the votes stay stored, but count in no rating, verdict or preference pair."""
    from evals.votes.voters import exclude_voter

    with open_home() as home:
        echo(f"{exclude_voter(home.database, voter, reason)} votes of {voter} no longer count.")


def include(voter: _Voter) -> None:
    """Include an excluded voter again."""
    from evals.votes.voters import include_voter

    with open_home() as home:
        echo(f"{include_voter(home.database, voter)} votes of {voter} count again.")


def show_excluded(as_json: JsonFlag = False) -> None:
    """List the excluded voters."""
    from evals.votes.voters import excluded_voters

    with open_home() as home:
        voters = excluded_voters(home.database)
    if as_json:
        print_json([asdict(row) for row in voters])
        return
    table = folding_table("voter", "votes", "reason", "since")
    for row in voters:
        table.add_row(row.voter, str(row.votes), row.reason, f"{row.created:%Y-%m-%d %H:%M}")
    echo(table if voters else "No voter is excluded.")


def merge(
    old: Annotated[str, typer.Argument(help="The name to replace.")],
    new: Annotated[str, typer.Argument(help="The name that stays.")],
) -> None:
    """Merge two names of one model in all votes, such as "a" and "A"."""
    from evals.votes.model_names import merge_model

    with open_home() as home:
        echo(f"{old} is now {new} in {merge_model(home.database, old, new)} pairs of answers.")


def export_file(
    file: Annotated[Path, typer.Argument(help=".csv, .jsonl, .parquet, or a new folder for `datasets`.")],
    preferences: Annotated[
        bool, typer.Option("--preferences", help="Preference pairs for TRL: prompt, chosen, rejected, as messages.")
    ] = False,
    openai: Annotated[
        bool, typer.Option("--openai", help="Preference pairs for OpenAI's DPO: a .jsonl with input, preferred_output.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet or datasets; by default from the file's ending.")
    ] = None,
    campaign: Annotated[str | None, typer.Option(help="Only the votes of this campaign.")] = None,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="Also pairs that a rater skipped, as rows without a winner.")
    ] = False,
) -> None:
    """Write the votes to a file, or with `--preferences` the pairs that a preference trainer loads.

    Preference pairs are the majority's choices, without ties and without held-out prompts. Exported votes can be
    imported again.

    Examples:

      parley votes export votes.csv

      parley votes export pairs.jsonl --preferences
    """
    from evals.votes.row_files import ExportFormat
    from evals.votes.vote_export import NOUNS, VoteExport, export_votes

    if preferences and openai:
        raise Invalid("Use --preferences or --openai, not both.", param="openai")
    contents = "openai" if openai else "preferences" if preferences else "votes"
    export = VoteExport(contents, cast(ExportFormat | None, form), campaign, skipped)
    with open_home() as home:
        echo(f"{export_votes(home.database, file, export)} {NOUNS[contents]} written to {file}.")
