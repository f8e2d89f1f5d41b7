"""The commands around votes: `parley leaderboard`, `verdict`, `votes import`, `votes export`.

They print and draw what `leaderboard`, `verdict`, `votes.imports` and `votes.exports` return; nothing is computed here,
and nothing heavy is loaded before a command runs.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from models.errors import Invalid

if TYPE_CHECKING:
    from evals.ratings.category_win_rates import CategoryRate
    from evals.ratings.leaderboard import Leaderboard, RatedModel
    from evals.ratings.verdict import Verdict
    from evals.reports.interval_chart import Plot

_BAD_SHOWN = 20  # rows; the rest are counted
_NARROW = 12  # characters: a drawing that is narrower says nothing

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Category = Annotated[str | None, typer.Option(help="Only votes on prompts of this category.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help="Also write it as a .html, .svg or .png file.")]
ByCategory = Annotated[bool, typer.Option("--by-category", help="Win rates in each category of prompts, too.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        help="Which column is which, in a CSV or JSONL: `--columns model_a=left_bot,prompt=task`. There are model_a, "
        "model_b, winner, prompt, messages, answer_a, answer_b, voter, category, id, created.",
    ),
]


def add_rating_commands(app: typer.Typer) -> None:
    """Hangs these commands on the `parley` app."""
    app.command("leaderboard")(show_leaderboard)
    app.command("verdict")(show_verdict)
    votes = typer.Typer(help="The votes that people cast: bring them in, take them out.", no_args_is_help=True)
    votes.command("import")(import_file)
    votes.command("export")(export_file)
    app.add_typer(votes, name="votes")


def show_leaderboard(
    category: Category = None, by_category: ByCategory = False, plot: PlotFile = None, as_json: JsonFlag = False
) -> None:
    """Rate the models from people's blind votes, with intervals, and say what that is worth.

    Ratings are on the Elo scale with mean 1000 (Bradley–Terry); intervals are 95 %, clustered by prompt, or by voter
    where voters are few. A range of ranks is what the votes allow; «style held equal» is the rating as if all answers
    were as long and as decorated. Votes are cast at the page's /vote.
    """
    from evals.ratings.leaderboard import leaderboard

    board = leaderboard(_database(), category)
    if plot is not None and board.rows:
        from evals.reports.interval_chart import write_plot

        write_plot(plot, _board_plot(board), "Leaderboard", _board_cells(board), [board.verdict, *board.notes])
    if as_json:
        typer.echo(json.dumps(board.to_json(), ensure_ascii=False))
        return
    if board.rows:
        _print(_board_table(board))
    _print(board.verdict)
    for note in board.notes:
        _print(f"· {note}")
    if by_category:
        _print(_category_table(board.categories))
    _told(plot, bool(board.rows))


def show_verdict(
    model_a: Annotated[str, typer.Argument(help="The model that is asked about: a name or an alias.")],
    model_b: Annotated[str, typer.Argument(help="The model it is held against.")],
    category: Category = None,
    plot: PlotFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Say whether one model is better than another, from people's blind votes; overall and by category.

    The answer is one of: better, worse, no difference worth having, not enough evidence. It may be asked after every
    vote: the test allows for that. A category's interval is for one look, and for one category.

    Example:

      parley verdict support-v2 support-v1 --plot verdict.html
    """
    from evals.ratings.category_win_rates import duel_by_category
    from evals.ratings.verdict import compare
    from evals.votes.votes import stored_votes

    database = _database()
    stored = stored_votes(database, category)
    found = compare(stored.votes, _id(database, model_a), _id(database, model_b))
    rows = duel_by_category(stored, found.model_a, found.model_b)
    if plot is not None and found.votes:
        from evals.reports.interval_chart import write_plot

        title = f"{found.model_a} against {found.model_b}"
        write_plot(plot, _duel_plot(found, rows), title, _duel_cells(found, rows), [found.text])
    if as_json:
        categories = {"categories": [asdict(row) for row in rows]}
        typer.echo(json.dumps(found.to_json() | categories, ensure_ascii=False))
        return
    if found.votes:
        _print(_duel_table(found, rows))
    _print(found.text)
    _told(plot, found.votes > 0)


def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV, JSONL, FastChat log or battles, Open WebUI feedback export.")],
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, fastchat or openwebui; found by its look without it.")
    ] = None,
    columns: Columns = None,
    each_its_own_prompt: Annotated[
        bool, typer.Option(help="The file does not tell prompts apart: take each vote for a prompt of its own.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring votes in from another tool. Importing the same file again adds nothing.

    Rows that are no votes are counted, and rows that cannot be read are listed with their line; all others are stored.
    A CSV needs model_a, model_b, winner (model_a, model_b, tie, both_bad) and a prompt, or the name of one; answers,
    voter, category and time are taken where they are there.

    Example:

      parley votes import battles.json
      parley votes import ours.csv --columns model_a=left_bot,model_b=right_bot,prompt=task
    """
    from evals.votes.import_formats import VoteFormat
    from evals.votes.vote_import import import_votes

    named = _named(columns)
    found = import_votes(
        _database(), file, form=cast(VoteFormat | None, form), columns=named, each_its_own_prompt=each_its_own_prompt
    )
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    known = f", {found.known} were here already" if found.known else ""
    _print(f"{found.new} new votes from {file.name} ({found.format}){known}.")
    for what, times in found.skipped.items():
        _print(f"· {times} not taken: {what}.")
    if found.changed:
        lines = ", ".join(map(str, found.changed[:_BAD_SHOWN]))
        _print(f"· {len(found.changed)} are here with another choice, which stays: line {lines}.")
    for bad in found.bad[:_BAD_SHOWN]:
        _print(f"· line {bad.line}: {bad.reason}")
    if len(found.bad) > _BAD_SHOWN:
        _print(f"· and {len(found.bad) - _BAD_SHOWN} more such lines; --json lists them all")
    for note in found.notes:
        _print(f"Note: {note}")
    if found.bad and not found.new + found.known:
        raise Invalid(f"No row of {file.name} is a vote.", param="file")


def export_file(
    file: Annotated[Path, typer.Argument(help=".csv, .jsonl, .parquet, or a new folder for `datasets`.")],
    preferences: Annotated[
        bool, typer.Option("--preferences", help="Preference pairs: prompt, chosen, rejected, as messages, for TRL.")
    ] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="csv, jsonl, parquet or datasets; found by the ending without it.")
    ] = None,
) -> None:
    """Write the votes to a file: every vote, or with `--preferences` what a preference trainer loads.

    Preference pairs are decisive, by majority, and never from a held-out prompt. Votes can be imported again.

    Example:

      parley votes export votes.csv
      parley votes export pairs.jsonl --preferences
    """
    from evals.votes.preference_pairs import export_preferences
    from evals.votes.vote_export import ExportFormat, vote_rows, write_rows

    kind = cast(ExportFormat | None, form)
    if preferences:
        _print(f"{export_preferences(_database(), file, kind)} preference pairs written to {file}.")
    else:
        _print(f"{write_rows(vote_rows(_database()), file, kind)} votes written to {file}.")


def _named(columns: list[str] | None) -> dict[str, str]:
    pairs = [part.partition("=") for one in columns or [] for part in one.split(",") if part.strip()]
    if wrong := next((name for name, equals, column in pairs if not (equals and column.strip())), None):
        raise Invalid(f"--columns takes name=column, not {wrong!r}.", param="columns")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _board_table(board: "Leaderboard") -> Any:
    """As much as the terminal is wide for: the drawing first goes, then how the votes fell, then the other rating."""
    from models.terminal import console

    start, end = min(row.low for row in board.rows), max(row.high for row in board.rows)
    columns = [
        ("rank", [_rank(row) for row in board.rows]),
        ("model", [row.model for row in board.rows]),
        ("rating", [f"{row.rating:.0f}" for row in board.rows]),
        ("95 %", [f"{row.low:.0f}–{row.high:.0f}" for row in board.rows]),
        ("votes", [str(row.votes) for row in board.rows]),
    ]
    styled = ("equal style", ["" if row.styled is None else f"{row.styled:.0f}" for row in board.rows])
    fell = ("won–tied–lost", [f"{row.wins}–{row.ties}–{row.losses}" for row in board.rows])
    optional = [(3, styled)] if board.style_votes else []
    room = console().width
    for place, column in [*optional, (len(columns) + len(optional), fell)]:
        if _needed([*columns, column]) <= room:
            columns.insert(place, column)
    return _drawn(columns, [(row.low, row.rating, row.high) for row in board.rows], (start, end), "", room)


def _needed(columns: list[tuple[str, list[str]]]) -> int:
    return sum(max(map(len, [name, *cells])) + 2 for name, cells in columns)


def _drawn(
    columns: list[tuple[str, list[str]]],
    intervals: list[tuple[float, float, float]],
    axis: tuple[float, float],
    unit: str,
    room: int,
) -> Any:
    """A table with its intervals drawn in the last column, as wide as there is room, where there is any."""
    from rich.table import Table

    from evals.reports.interval_chart import TERMINAL, axis_line, interval_line

    width = min(TERMINAL, room - _needed(columns) - 2)
    if width >= _NARROW:
        lines = [interval_line(low, value, high, *axis, width=width) for low, value, high in intervals]
        columns = [*columns, (axis_line(*axis, unit, width), lines)]
    table = Table(box=None, header_style="bold")
    for name, _ in columns:
        table.add_column(name, no_wrap=name not in ("model", "category"), overflow="fold")
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    return table


def _rank(row: "RatedModel") -> str:
    if not row.enough:
        return "?"
    return str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"


def _board_plot(board: "Leaderboard") -> "Plot":
    from evals.reports.interval_chart import Interval, Plot

    def second(row: "RatedModel") -> tuple[float, float, float] | None:
        if row.styled is None or row.styled_low is None or row.styled_high is None:
            return None
        return row.styled, row.styled_low, row.styled_high

    rows = tuple(Interval(row.model, row.rating, row.low, row.high, row.enough, second(row)) for row in board.rows)
    ends = [end for row in rows for end in (row.low, row.high, *(row.second or ())[1:])]
    legend = ("as voted", "style held equal") if any(row.second for row in rows) else None
    return Plot(rows, min(ends), max(ends), "Rating, with its 95 % interval", legend=legend)


def _board_cells(board: "Leaderboard") -> list[list[str]]:
    head = ["Rank", "Model", "Rating", "95 % interval", "Style held equal", "Without ties", "Votes", "Won–tied–lost"]
    return [head] + [
        [
            _rank(row),
            row.model,
            f"{row.rating:.0f}",
            f"{row.low:.0f} to {row.high:.0f}",
            "" if row.styled is None else f"{row.styled:.0f}",
            "" if row.without_ties is None else f"{row.without_ties:.0f}",
            str(row.votes),
            f"{row.wins}–{row.ties}–{row.losses}",
        ]
        for row in board.rows
    ]


def _category_table(rows: "tuple[CategoryRate, ...]") -> Any:
    from models.terminal import console

    columns = [
        ("category", [row.category or "(none)" for row in rows]),
        ("model", [row.model for row in rows]),
        ("wins", [f"{row.win_rate:.0%}" for row in rows]),
        ("votes", [str(row.votes) for row in rows]),
        ("", ["" if row.enough else "too few" for row in rows]),
    ]
    return _drawn(
        columns, [(100 * row.low, 100 * row.win_rate, 100 * row.high) for row in rows], (0, 100), " %", console().width
    )


def _duel_rows(found: "Verdict", rows: "tuple[CategoryRate, ...]") -> list[tuple[str, float, float, float, int, bool]]:
    """Name, win rate, low, high, votes, enough: over all, then by category where there is more than one."""
    from evals.ratings.verdict import MIN_PROMPTS, MIN_VOTES

    sure = found.votes >= MIN_VOTES and found.prompts >= MIN_PROMPTS
    every = [("all prompts", found.win_rate or 0.0, found.low, found.high, found.votes, sure)]
    if len(rows) < 2:
        return every
    return every + [(row.category or "(none)", row.win_rate, row.low, row.high, row.votes, row.enough) for row in rows]


def _duel_table(found: "Verdict", rows: "tuple[CategoryRate, ...]") -> Any:
    from models.terminal import console

    cells = _duel_rows(found, rows)
    columns = [
        ("prompts", [name for name, *_ in cells]),
        ("wins", [f"{rate:.0%}" for _, rate, *_ in cells]),
        ("95 %", [f"{low:.0%}–{high:.0%}" for _, _, low, high, *_ in cells]),
        ("votes", [str(votes) for *_, votes, _ in cells]),
        ("", ["" if sure else "too few" for *_, sure in cells]),
    ]
    intervals = [(100 * low, 100 * rate, 100 * high) for _, rate, low, high, *_ in cells]
    return _drawn(columns, intervals, (0, 100), " %", console().width)


def _duel_plot(found: "Verdict", rows: "tuple[CategoryRate, ...]") -> "Plot":
    from evals.ratings.verdict import MARGIN
    from evals.reports.interval_chart import Interval, Plot

    intervals = tuple(
        Interval(name, 100 * rate, 100 * low, 100 * high, sure)
        for name, rate, low, high, _, sure in _duel_rows(found, rows)
    )
    band = (50 - 100 * MARGIN, 50 + 100 * MARGIN)
    return Plot(intervals, 0, 100, f"How often {found.model_a} wins, ties as half; 95 % intervals", " %", band)


def _duel_cells(found: "Verdict", rows: "tuple[CategoryRate, ...]") -> list[list[str]]:
    return [["Prompts", "Win rate", "95 % interval", "Votes", ""]] + [
        [name, f"{rate:.0%}", f"{low:.0%} to {high:.0%}", str(votes), "" if sure else "not enough evidence"]
        for name, rate, low, high, votes, sure in _duel_rows(found, rows)
    ]


def _told(plot: Path | None, drawn: bool) -> None:
    if plot is not None:
        _print(f"Drawn in {plot}." if drawn else f"There is nothing to draw, so {plot} was not written.")


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


def _print(what: Any) -> None:
    from models.terminal import console

    # No markup: a name may hold [brackets].
    console().print(what, markup=False)
