"""Plotly figures for the owners' app: ratings, win rates, a judge's results, losses, usage. Numbers in, figures out.

The colours are readable on light and on dark pages, because a figure does not know which one it is on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from train.run.curves import Curves

_TEXT = "#858b88"
_GRID = "rgba(133, 139, 136, .22)"
_PINE = "#2c8a7e"
_CLAY = "#d9714b"
_PALE = "#a9aca6"
_STACK = (_PINE, _CLAY, "#c9a13b", "#6f7fb5", "#9a6a8f", "#7fa857", _PALE)
_MAX_POINTS = 600
_FULL = 30  # votes from which a cell of the win-rate plot has its full colour
_MAX_LABEL = 18
_FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class Dot:
    """One model's rating with its interval; `enough` says whether the votes support it."""

    name: str
    value: float
    low: float
    high: float
    enough: bool
    note: str


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of the judged pairs, and model b's win rate with its interval (0 to 1)."""

    name_a: str
    name_b: str
    wins_a: int
    ties: int
    wins_b: int
    rate_b: float
    low: float
    high: float


def rating_plot(dots: Sequence[Dot]) -> "Figure":
    """Ratings as dots with intervals, the best on top; a dot is hollow if there is not enough evidence."""
    from plotly import graph_objects as go

    ordered = list(reversed(dots))
    figure = go.Figure(
        go.Scatter(
            x=[dot.value for dot in ordered],
            y=[dot.name for dot in ordered],
            mode="markers",
            marker={
                "size": 13,
                "color": [_PINE if dot.enough else "rgba(0,0,0,0)" for dot in ordered],
                "line": {"width": 2.5, "color": [_PINE if dot.enough else _PALE for dot in ordered]},
            },
            error_x=_intervals([dot.high - dot.value for dot in ordered], [dot.value - dot.low for dot in ordered]),
            customdata=[[dot.low, dot.high, dot.note] for dot in ordered],
            hovertemplate="<b>%{y}</b><br>rating %{x:.0f}, 95 % interval %{customdata[0]:.0f} to %{customdata[1]:.0f}"
            "<br>%{customdata[2]}<extra></extra>",
        )
    )
    _style(figure, height=110 + 52 * max(len(dots), 1))
    figure.update_xaxes(title={"text": "Rating with 95 % interval", "font": {"size": 13}}, gridcolor=_GRID)
    figure.update_yaxes(showgrid=False, **_short_labels([dot.name for dot in ordered]))
    return figure


def win_rate_plot(
    names: Sequence[str], rates: Sequence[Sequence[float | None]], votes: Sequence[Sequence[int]]
) -> "Figure":
    """How often voters prefer the row's model to the column's, with the number of votes, as a heat map.

    A cell is empty if the two were never compared, and pale if the votes are few.
    """
    from plotly import graph_objects as go

    cells = [list(zip(row, counts, strict=True)) for row, counts in zip(rates, votes, strict=True)]
    text = [["" if rate is None else f"{100 * rate:.0f} %<br>of {count:,}" for rate, count in row] for row in cells]
    figure = go.Figure(
        go.Heatmap(
            z=[
                [None if rate is None else 0.5 + (rate - 0.5) * min(1.0, count / _FULL) for rate, count in row]
                for row in cells
            ],
            x=list(names),
            y=list(names),
            text=text,
            texttemplate="%{text}",
            textfont={"size": 13, "color": "#20262a"},
            zmin=0,
            zmax=1,
            colorscale=[(0, "#d9714b"), (0.5, "#e9e4d9"), (1, "#2c8a7e")],
            showscale=False,
            xgap=4,
            ygap=4,
            hoverongaps=False,
            hovertemplate="%{y} over %{x}: %{text} votes<extra></extra>",
        )
    )
    _style(figure, height=150 + 56 * max(len(names), 1))
    labels = _short_labels(names)
    figure.update_yaxes(autorange="reversed", showgrid=False, **labels)
    figure.update_xaxes(side="top", showgrid=False, **labels)
    return figure


def judge_plot(outcomes: Outcomes) -> "Figure":
    """A bar of wins, ties and losses, and below it the win rate as a dot with its interval."""
    from plotly import graph_objects as go

    pairs = max(outcomes.wins_a + outcomes.ties + outcomes.wins_b, 1)
    parts = [
        (f"{outcomes.name_b} better", outcomes.wins_b, _PINE),
        ("tie", outcomes.ties, _PALE),
        (f"{outcomes.name_a} better", outcomes.wins_a, _CLAY),
    ]
    figure = go.Figure(
        [
            go.Bar(
                x=[100 * count / pairs],
                y=["Pairs"],
                name=name,
                orientation="h",
                marker={"color": colour, "cornerradius": 5},
                text=[f"{name}: {count}" if count else ""],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": "#ffffff", "size": 13},
                hovertemplate=f"{name}: {count} of {pairs} pairs<extra></extra>",
                width=0.62,
            )
            for name, count, colour in parts
        ]
    )
    figure.add_scatter(
        x=[100 * outcomes.rate_b],
        y=["Win rate"],
        mode="markers",
        marker={"size": 13, "color": _PINE},
        error_x=_intervals([100 * (outcomes.high - outcomes.rate_b)], [100 * (outcomes.rate_b - outcomes.low)]),
        hovertemplate=f"{outcomes.name_b} wins %{{x:.0f}} %, a tie counts half<extra></extra>",
    )
    figure.add_vline(x=50, line={"color": _TEXT, "width": 1, "dash": "dot"})
    _style(figure, height=180)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 100], ticksuffix=" %", gridcolor=_GRID)
    figure.update_yaxes(showgrid=False, categoryorder="array", categoryarray=["Win rate", "Pairs"])
    return figure


def loss_plot(curves: "Curves") -> "Figure":
    """A run's training loss with its running mean, and its validation loss, over the steps."""
    from plotly import graph_objects as go

    from train.run.curves import smoothed

    figure = go.Figure()
    steps, means = _thinned(curves.train), _thinned(smoothed(curves.train))
    lines = (("each step", steps, _PALE, 1.2), ("training (running mean)", means, _PINE, 3))
    for name, points, colour, width in lines:
        figure.add_scatter(
            x=[step for step, _ in points],
            y=[loss for _, loss in points],
            name=name,
            mode="lines" if len(points) > 1 else "markers",
            line={"color": colour, "width": width},
            opacity=0.55 if colour == _PALE else 1,
            hovertemplate=f"step %{{x}}: {name} %{{y:.3f}}<extra></extra>",
        )
    figure.add_scatter(
        x=[step for step, _ in curves.validation],
        y=[loss for _, loss in curves.validation],
        name="validation",
        mode="lines+markers",
        marker={"size": 9, "color": _CLAY},
        cliponaxis=False,
        line={"color": _CLAY, "width": 2.5},
        hovertemplate="step %{x}: validation %{y:.3f}<extra></extra>",
    )
    _style(figure, height=300)
    _show_legend(figure)
    figure.update_layout(uirevision="run")
    figure.update_xaxes(title={"text": "Step", "font": {"size": 13}}, showgrid=False)
    figure.update_xaxes(range=[0, max(1, curves.steps)], ticksuffix="")
    figure.update_yaxes(title={"text": "Loss", "font": {"size": 13}}, gridcolor=_GRID)
    figure.update_yaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class Bars:
    """One series of a stacked plot: its name, and a height for each day."""

    name: str
    heights: Sequence[float]


def stacked_plot(days: Sequence[date], bars: Sequence[Bars], title: str) -> "Figure":
    """Stacked bars, one for each day; at most as many series as there are colours."""
    from plotly import graph_objects as go

    # Category names, not dates: Plotly would draw the bar of a single day a millisecond wide.
    names = [f"{day:%b} {day.day}" if len(days) < 90 else day.isoformat() for day in days]
    figure = go.Figure(
        [
            go.Bar(
                x=names,
                y=list(series.heights),
                name=series.name,
                marker={"color": colour, "cornerradius": 3},
                hovertemplate=f"<b>{series.name}</b><br>%{{x}}: %{{y:,}}<extra></extra>",
            )
            for series, colour in zip(bars, _STACK, strict=False)
        ]
    )
    _style(figure, height=280)
    _show_legend(figure)
    figure.update_layout(barmode="stack", bargap=0.25)
    # A phone fits five labels.
    labels = names[:: -max(1, -(-len(names) // 5))]
    figure.update_xaxes(type="category", showgrid=False, tickangle=0, tickvals=labels)
    figure.update_yaxes(
        title={"text": title, "font": {"size": 13}}, gridcolor=_GRID, rangemode="tozero", tickformat="~s"
    )
    return figure


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """As many points as a plot can show, including the last: the figure is sent again every two seconds."""
    stride = max(1, len(points) // _MAX_POINTS)
    return points[(len(points) - 1) % stride :: stride] if points else points


def _short_labels(names: Sequence[str]) -> dict[str, Any]:
    """Axis labels that leave room for the plot on a phone: a long name keeps its start and its end."""
    short = [name if len(name) <= _MAX_LABEL else f"{name[:7]}…{name[-8:]}" for name in names]
    return {"tickvals": list(names), "ticktext": short}


def _intervals(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    bars = {"type": "data", "symmetric": False, "thickness": 2, "width": 5, "color": _PALE}
    return bars | {"array": list(above), "arrayminus": list(below)}


def _show_legend(figure: Any) -> None:
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 13}, "traceorder": "normal"}
    figure.update_layout(showlegend=True, legend=legend, margin={"l": 8, "r": 16, "t": 36, "b": 8})


def _style(figure: Any, height: int) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 16, "t": 16, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 13, "color": _TEXT},
        hoverlabel={"font": {"family": _FONT, "size": 13}},
        showlegend=False,
        dragmode=False,
    )
    figure.update_xaxes(zeroline=False, automargin=True, fixedrange=True)
    figure.update_yaxes(zeroline=False, automargin=True, fixedrange=True, ticksuffix="  ")
