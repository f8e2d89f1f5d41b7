"""This room's commands: `parley leaderboard`, `verdict`, `votes`, `judge`, `rubrics`, `eval`, `prompts`.

Most hang here from files of their own; nothing is computed here, and nothing heavy is loaded before a command runs.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from evals.commands.evaluations import eval_group
from evals.commands.judges import judge_group, rubrics_group
from evals.commands.ratings import add_rating_commands

_QUESTION = 48

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def add_commands(app: typer.Typer) -> None:
    """Hangs this room's commands on the `parley` app."""
    add_rating_commands(app)
    app.add_typer(judge_group(), name="judge")
    app.add_typer(rubrics_group(), name="rubrics")
    prompts = typer.Typer(help="The prompts that models are compared on.", no_args_is_help=True)
    prompts.command("add")(add_prompt_file)
    prompts.command("list")(list_prompts)
    app.add_typer(prompts, name="prompts")
    app.add_typer(eval_group(), name="eval")


def add_prompt_file(
    file: Annotated[Path, typer.Argument(help="JSONL: `messages` or `prompt`; `category`, `topics`, `held_out`.")],
    source: Annotated[str | None, typer.Option(help="Where they come from; the file's name without it.")] = None,
) -> None:
    """Add prompts to compare models on. One that is there already is not added twice."""
    from evals.votes.prompts import add_prompts

    new = add_prompts(_database(), file, source or file.stem[:64])
    _print(f"{new} new prompts.")


def list_prompts(as_json: JsonFlag = False) -> None:
    """List the stored prompts; what raters typed is not among them."""
    from dataclasses import asdict

    from rich.table import Table

    from evals.votes.prompts import prompts

    found = prompts(_database())
    if as_json:
        rows = [
            asdict(prompt) | {"messages": [message.model_dump() for message in prompt.messages]} for prompt in found
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("prompt", "category", "held out", "source", box=None, header_style="bold")
    for prompt in found:
        table.add_row(_short(prompt.question), prompt.category or "", "yes" if prompt.held_out else "", prompt.source)
    _print(table if found else "There are no prompts yet: `parley prompts add FILE`.")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION else line[: _QUESTION - 1] + "…"


def _database() -> Any:
    from models.cli import opened

    return opened()[1]


def _print(what: Any) -> None:
    from models.terminal import console

    # No markup: a prompt may hold [brackets].
    console().print(what, markup=False)
