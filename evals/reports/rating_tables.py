"""The leaderboard and a verdict as terminal tables with drawn intervals, as charts, and as HTML tables' cells."""

from dataclasses import replace
from typing import Any

from evals.ratings.category_win_rates import CategoryRate
from evals.ratings.leaderboard import Leaderboard, RatedModel
from evals.ratings.verdict import MIN_PROMPTS, MIN_VOTES, Verdict
from evals.reports.interval_chart import TERMINAL_WIDTH, Interval, Plot, axis_line, interval_line

_VOTERS = 12  # listed in a terminal
_MIN_WIDTH = 12  # characters: a narrower drawing is unreadable
Column = tuple[str, list[str]]


def board_table(board: Leaderboard) -> Any:
    """The leaderboard, as wide as the terminal: the drawing goes first, then the vote counts, then the other rating."""
    columns: list[Column] = [
        ("rank", [_rank(row) for row in board.rows]),
        ("model", [row.model for row in board.rows]),
        ("rating", [f"{row.rating:.0f}" for row in board.rows]),
        ("95 %", [f"{row.low:.0f}–{row.high:.0f}" for row in board.rows]),
        ("votes", [str(row.votes) for row in board.rows]),
    ]
    styled = ("equal style", ["" if row.styled is None else f"{row.styled:.0f}" for row in board.rows])
    counts = ("won–tied–lost", [f"{row.wins}–{row.ties}–{row.losses}" for row in board.rows])
    optional = [(3, styled)] if board.style_votes else []
    width = _terminal_width()
    for place, column in [*optional, (len(columns) + len(optional), counts)]:
        if _columns_width([*columns, column]) <= width:
            columns.insert(place, column)
    axis = (min(row.low for row in board.rows), max(row.high for row in board.rows))
    return _draw(columns, [(row.low, row.rating, row.high) for row in board.rows], axis)


def board_plot(board: Leaderboard) -> Plot:
    """The leaderboard's chart: each rating, and the style-controlled one below it if there is one."""

    def second(row: RatedModel) -> tuple[float, float, float] | None:
        if row.styled is None or row.styled_low is None or row.styled_high is None:
            return None
        return row.styled, row.styled_low, row.styled_high

    rows = tuple(Interval(row.model, row.rating, row.low, row.high, row.enough, second(row)) for row in board.rows)
    ends = [end for row in rows for end in (row.low, row.high, *(row.second or ())[1:])]
    legend = ("as voted", "equal style") if any(row.second for row in rows) else None
    axis = f"Rating, with its 95 % interval for {board.scope}"
    return Plot(rows, min(ends), max(ends), axis, legend=legend)


def board_cells(board: Leaderboard) -> list[list[str]]:
    """The leaderboard's cells, the header first."""
    head = ["Rank", "Model", "Rating", "95 % interval", "Equal style", "Without ties", "Votes", "Won–tied–lost"]
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


def category_table(rows: tuple[CategoryRate, ...]) -> Any:
    """Each model's win rate in each category."""
    columns = [
        ("category", [row.category or "(none)" for row in rows]),
        ("model", [row.model for row in rows]),
        ("wins", [f"{row.win_rate:.0%}" for row in rows]),
        ("votes", [str(row.votes) for row in rows]),
        ("", ["" if row.enough else "too few" for row in rows]),
    ]
    return _draw(columns, [(100 * row.low, 100 * row.win_rate, 100 * row.high) for row in rows], (0, 100), " %")


def duel_table(verdict: Verdict, categories: tuple[CategoryRate, ...]) -> Any:
    """One model's win rate against another: overall, then by category."""
    rows = _duel_rows(verdict, categories)
    columns = [
        ("prompts", [row.category for row in rows]),
        ("wins", [f"{row.win_rate:.0%}" for row in rows]),
        ("95 %", [f"{row.low:.0%}–{row.high:.0%}" for row in rows]),
        ("votes", [str(row.votes) for row in rows]),
        ("", ["" if row.enough else "too few" for row in rows]),
    ]
    return _draw(columns, [(100 * row.low, 100 * row.win_rate, 100 * row.high) for row in rows], (0, 100), " %")


def voters_table(verdict: Verdict) -> Any:
    """Who prefers which model: the voters with the most votes."""
    rows = verdict.by_voter[:_VOTERS]
    return _draw(
        [
            ("voter", [row.voter for row in rows]),
            ("prefers", [row.prefers or "neither" for row in rows]),
            ("wins", [f"{row.win_rate:.0%}" for row in rows]),
            ("votes", [str(row.votes) for row in rows]),
            ("of all", [f"{row.share:.0%}" for row in rows]),
        ],
        [],
        (0, 100),
    )


def duel_plot(verdict: Verdict, categories: tuple[CategoryRate, ...]) -> Plot:
    """The verdict's chart; the band is where a difference is not meaningful."""
    intervals = tuple(
        Interval(row.category, 100 * row.win_rate, 100 * row.low, 100 * row.high, row.enough)
        for row in _duel_rows(verdict, categories)
    )
    if verdict.people_like_them:
        first, these = intervals[0], verdict.these_people
        only = replace(first, name=f"these {verdict.voters} people only", low=100 * these.low, high=100 * these.high)
        intervals = (first, only, *intervals[1:])
    band = (50 - 100 * verdict.margin, 50 + 100 * verdict.margin)
    axis = f"How often {verdict.model_a} wins, ties counted as half; 95 % intervals"
    return Plot(intervals, 0, 100, axis, " %", band)


def duel_cells(verdict: Verdict, categories: tuple[CategoryRate, ...]) -> list[list[str]]:
    """The verdict's cells, the header first."""
    return [["Prompts", "Win rate", "95 % interval", "Votes", ""]] + [
        [
            row.category,
            f"{row.win_rate:.0%}",
            f"{row.low:.0%} to {row.high:.0%}",
            str(row.votes),
            "" if row.enough else "not enough evidence",
        ]
        for row in _duel_rows(verdict, categories)
    ]


def scope_cells(verdict: Verdict) -> list[list[str]]:
    """For whom the verdict holds: these people, and people like them. The header first."""
    these = "this one person" if verdict.voters == 1 else f"these {verdict.voters} people"
    rows = [["For whom", "State", "95 % interval", f"At least as good (within {100 * verdict.margin:g} points)"]]
    for name, scoped in ((these, verdict.these_people), ("people like them", verdict.people_like_them)):
        if scoped is None:
            missing = "1 more voter is" if verdict.voters_missing == 1 else f"{verdict.voters_missing} more voters are"
            rows.append([name, f"{missing} needed", "", ""])
        else:
            good = "yes" if scoped.at_least_as_good else "not shown"
            rows.append([name, scoped.state, f"{scoped.low:.0%} to {scoped.high:.0%}", good])
    return rows


def scope_notes(verdict: Verdict) -> list[str]:
    """`scope_cells` as sentences, for a chart's notes."""
    _, *rows = scope_cells(verdict)
    return [
        f"For {name}: {state}" + (f" (95 % interval {span}); at least as good: {good}." if span else ".")
        for name, state, span, good in rows
    ]


def _duel_rows(verdict: Verdict, categories: tuple[CategoryRate, ...]) -> list[CategoryRate]:
    enough = verdict.votes >= MIN_VOTES and verdict.prompts >= MIN_PROMPTS
    overall = CategoryRate(
        "all prompts", verdict.model_a, verdict.win_rate or 0.0, verdict.low, verdict.high, verdict.votes,
        verdict.prompts, enough,
    )  # fmt: skip
    if len(categories) < 2:
        return [overall]
    return [overall, *(replace(row, category=row.category or "(none)") for row in categories)]


def _rank(row: RatedModel) -> str:
    if not row.enough:
        return "?"
    return str(row.rank_low) if row.rank_low == row.rank_high else f"{row.rank_low}–{row.rank_high}"


def _draw(
    columns: list[Column], intervals: list[tuple[float, float, float]], axis: tuple[float, float], unit: str = ""
) -> Any:
    """A table with its intervals drawn in the last column if the terminal is wide enough."""
    from rich.table import Table

    width = min(TERMINAL_WIDTH, _terminal_width() - _columns_width(columns) - 2)
    if intervals and width >= _MIN_WIDTH:
        lines = [interval_line(interval, axis, width) for interval in intervals]
        columns = [*columns, (axis_line(*axis, unit, width), lines)]
    table = Table(box=None, header_style="bold")
    for name, _ in columns:
        table.add_column(name, no_wrap=name not in ("model", "category", "voter", "prefers"), overflow="fold")
    for cells in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*cells)
    return table


def _columns_width(columns: list[Column]) -> int:
    return sum(max(map(len, [name, *cells])) + 2 for name, cells in columns)


def _terminal_width() -> int:
    from models.terminal import console

    return console().width
