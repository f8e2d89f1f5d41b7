"""This room's commands: `parley eval`, `leaderboard`, `verdict`, `judge`, `rubrics`, `votes export`, `prompts`.

They print what `leaderboard` and `verdict` return; nothing is computed here, and nothing heavy is
loaded before a command runs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evals.eval_commands import eval_group
from evals.judge_commands import judge_group, rubrics_group

if TYPE_CHECKING:
    from evals.leaderboard import Leaderboard

_PLOT = 36  # characters
_QUESTION = 48

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Category = Annotated[str | None, typer.Option(help="Only votes on prompts of this category.")]


def add_commands(app: typer.Typer) -> None:
    """Hangs this room's commands on the `parley` app."""
    app.command("leaderboard")(show_leaderboard)
    app.command("verdict")(show_verdict)
    app.add_typer(judge_group(), name="judge")
    app.add_typer(rubrics_group(), name="rubrics")
    votes = typer.Typer(help="The votes that people cast.", no_args_is_help=True)
    votes.callback()(_group)
    votes.command("export")(export_votes)
    app.add_typer(votes, name="votes")
    prompts = typer.Typer(help="The prompts that models are compared on.", no_args_is_help=True)
    prompts.command("add")(add_prompt_file)
    prompts.command("list")(list_prompts)
    app.add_typer(prompts, name="prompts")
    app.add_typer(eval_group(), name="eval")


def _group() -> None:
    """The votes that people cast."""


def show_leaderboard(category: Category = None, as_json: JsonFlag = False) -> None:
    """Rate the models from people's blind votes, with intervals, and say what that is worth.

    Ratings are on the Elo scale with mean 1000 (Bradley–Terry); intervals are 95 %, clustered by prompt, or by voter
    where voters are few. A range of ranks is what the votes allow. Votes are cast at the page's /vote.
    """
    from evals.leaderboard import leaderboard

    board = leaderboard(_database(), category)
    if as_json:
        typer.echo(json.dumps(board.to_json(), ensure_ascii=False))
        return
    if board.rows:
        _print(_board_table(board))
    _print(board.verdict)


def show_verdict(
    model_a: Annotated[str, typer.Argument(help="The model that is asked about: a name or an alias.")],
    model_b: Annotated[str, typer.Argument(help="The model it is held against.")],
    category: Category = None,
    as_json: JsonFlag = False,
) -> None:
    """Say whether one model is better than another, from people's blind votes.

    The answer is one of: better, worse, no difference worth having, not enough evidence. It may be asked after every
    vote: the test allows for that.
    """
    from evals.verdict import verdict

    database = _database()
    found = verdict(database, _id(database, model_a), _id(database, model_b), category)
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    _print(found.text)


def export_votes(
    file: Annotated[Path, typer.Argument(help="Where to write the JSONL.")],
) -> None:
    """Write the votes as preference pairs: prompt, chosen, rejected, one JSON object a line.

    Only decisive pairs, by majority; never a held-out prompt. `datasets` and TRL's preference trainers load it.
    """
    from evals.preferences import export_preferences

    written = export_preferences(_database(), file)
    _print(f"{written} preference pairs written to {file}.")


def add_prompt_file(
    file: Annotated[Path, typer.Argument(help="JSONL: `messages` or `prompt`; `category`, `topics`, `held_out`.")],
    source: Annotated[str | None, typer.Option(help="Where they come from; the file's name without it.")] = None,
) -> None:
    """Add prompts to compare models on. One that is there already is not added twice."""
    from evals.prompts import add_prompts

    new = add_prompts(_database(), file, source or file.stem[:64])
    _print(f"{new} new prompts.")


def list_prompts(as_json: JsonFlag = False) -> None:
    """List the stored prompts; what raters typed is not among them."""
    from dataclasses import asdict

    from rich.table import Table

    from evals.prompts import prompts

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


def interval_line(low: float, middle: float, high: float, start: float, end: float, width: int = _PLOT) -> str:
    """An interval as text, `├──●──┤`, on an axis from `start` to `end`; what lies outside is cut off."""

    def at(value: float) -> int:
        share = (value - start) / (end - start) if end > start else 0.5
        return round(min(max(share, 0.0), 1.0) * (width - 1))

    line = [" "] * width
    for i in range(at(low), at(high) + 1):
        line[i] = "─"
    line[at(low)], line[at(high)] = "├", "┤"
    line[at(middle)] = "●"
    return "".join(line)


def _board_table(board: "Leaderboard") -> Any:
    from rich.table import Table

    start, end = min(row.low for row in board.rows), max(row.high for row in board.rows)
    axis = f"{start:.0f}".ljust(_PLOT - len(f"{end:.0f}")) + f"{end:.0f}"
    table = Table("rank", "model", "rating", "95 %", axis, "votes", "won–tied–lost", box=None, header_style="bold")
    for row in board.rows:
        rank = str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"
        table.add_row(
            rank if row.enough else "?",
            row.model,
            f"{row.rating:.0f}",
            f"{row.low:.0f}–{row.high:.0f}",
            interval_line(row.low, row.rating, row.high, start, end),
            str(row.votes),
            f"{row.wins}–{row.ties}–{row.losses}",
        )
    return table


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION else line[: _QUESTION - 1] + "…"


def _id(database: Any, name: str) -> str:
    """An alias's id; a name that the registry does not know stays, since votes outlive their models."""
    from models.errors import NotFound
    from models.registry import Registry

    try:
        return Registry(database).resolve(name).id
    except NotFound:
        return name


def _database() -> Any:
    from models.cli import opened

    return opened()[1]


def _console() -> Any:
    from models.cli import console

    return console()


def _print(what: Any) -> None:
    # No markup: a prompt may hold [brackets].
    _console().print(what, markup=False)
