"""`parley prompts add` and `parley prompts list`."""

from pathlib import Path
from typing import Annotated

import typer

from evals.commands.flags import JsonFlag
from evals.reports.terminal import echo, folding_table, shorten
from models.terminal import open_home, print_json


def prompts_group() -> typer.Typer:
    """The commands under `parley prompts`."""
    group = typer.Typer(help="The prompts that models are compared on.", no_args_is_help=True)
    group.command("add")(add)
    group.command("list")(list_stored)
    return group


def add(
    file: Annotated[
        Path, typer.Argument(help="JSONL rows with `messages` or `prompt`; also `category`, `topics`, `held_out`.")
    ],
    source: Annotated[str | None, typer.Option(help="Where the prompts come from; by default the file's name.")] = None,
) -> None:
    """Add prompts to compare models on. A prompt that is already stored is not added again."""
    from evals.votes.prompts import add_prompts

    with open_home() as home:
        echo(f"{add_prompts(home.database, file, source or file.stem[:64])} new prompts.")


def list_stored(as_json: JsonFlag = False) -> None:
    """List the stored prompts, without those that raters typed."""
    from dataclasses import asdict

    from evals.votes.prompts import prompts

    with open_home() as home:
        stored = prompts(home.database)
    if as_json:
        rows = [
            asdict(prompt) | {"messages": [message.model_dump() for message in prompt.messages]} for prompt in stored
        ]
        print_json(rows)
        return
    table = folding_table("prompt", "category", "held out", "source")
    for prompt in stored:
        table.add_row(shorten(prompt.question), prompt.category or "", "yes" if prompt.held_out else "", prompt.source)
    echo(table if stored else "There are no prompts yet: add some with `parley prompts add FILE`.")
