"""Figures for the owners' page: ratings with intervals, who beats whom, a judge's wins, use. Numbers in, Plotly out.

Colours are chosen to be read on light and on dark paper alike, for a figure does not know on which it stands.
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
_POINTS = 600
_FONT = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class Dot:
    """One model's rating: the point, its interval, and whether there are votes enough to believe it."""

    name: str
    value: float
    low: float
    high: float
    sure: bool
    note: str


@dataclass(frozen=True)
class Outcomes:
    """What became of the judged pairs, and b's win rate with its interval, all of them between 0 and 1."""

    name_a: str
    name_b: str
    wins_a: int
    ties: int
    wins_b: int
    rate_b: float
    low: float
    high: float


def rating_plot(dots: Sequence[Dot]) -> "Figure":
    """Ratings as dots with intervals, the best on top; hollow where there is not enough evidence."""
    from plotly import graph_objects as go

    ordered = list(reversed(dots))
    figure = go.Figure(
        go.Scatter(
            x=[dot.value for dot in ordered],
            y=[dot.name for dot in ordered],
            mode="markers",
            marker={
                "size": 13,
                "color": [_PINE if dot.sure else "rgba(0,0,0,0)" for dot in ordered],
                "line": {"width": 2.5, "color": [_PINE if dot.sure else _PALE for dot in ordered]},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [dot.high - dot.value for dot in ordered],
                "arrayminus": [dot.value - dot.low for dot in ordered],
                "thickness": 2,
                "width": 5,
                "color": _PALE,
            },
            customdata=[[dot.low, dot.high, dot.note] for dot in ordered],
            hovertemplate="<b>%{y}</b><br>%{x:.0f}, interval %{customdata[0]:.0f} to %{customdata[1]:.0f}"
            "<br>%{customdata[2]}<extra></extra>",
        )
    )
    _dress(figure, height=110 + 52 * max(len(dots), 1))
    figure.update_xaxes(title={"text": "Rating, with its 95 % interval", "font": {"size": 13}}, gridcolor=_GRID)
    figure.update_yaxes(showgrid=False)
    return figure


def win_rate_plot(names: Sequence[str], rates: Sequence[Sequence[float | None]]) -> "Figure":
    """How often the row's model is preferred to the column's, as a heat map; empty where they never met."""
    from plotly import graph_objects as go

    text = [["" if rate is None else f"{100 * rate:.0f} %" for rate in row] for row in rates]
    figure = go.Figure(
        go.Heatmap(
            z=[list(row) for row in rates],
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
            hovertemplate="%{y} over %{x}: %{text}<extra></extra>",
        )
    )
    _dress(figure, height=150 + 56 * max(len(names), 1))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", showgrid=False)
    return figure


def judged_plot(found: Outcomes) -> "Figure":
    """One bar of wins, ties and losses, and under it the win rate as a dot with its interval."""
    from plotly import graph_objects as go

    pairs = max(found.wins_a + found.ties + found.wins_b, 1)
    parts = [
        (f"{found.name_b} better", found.wins_b, _PINE),
        ("tie", found.ties, _PALE),
        (f"{found.name_a} better", found.wins_a, _CLAY),
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
        x=[100 * found.rate_b],
        y=["Win rate"],
        mode="markers",
        marker={"size": 13, "color": _PINE},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (found.high - found.rate_b)],
            "arrayminus": [100 * (found.rate_b - found.low)],
            "thickness": 2,
            "width": 5,
            "color": _PALE,
        },
        hovertemplate=f"{found.name_b} wins %{{x:.0f}} %, ties as half<extra></extra>",
    )
    figure.add_vline(x=50, line={"color": _TEXT, "width": 1, "dash": "dot"})
    _dress(figure, height=180)
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 100], ticksuffix=" %", gridcolor=_GRID)
    figure.update_yaxes(showgrid=False, categoryorder="array", categoryarray=["Win rate", "Pairs"])
    return figure


def loss_plot(curves: "Curves") -> "Figure":
    """A run's training loss, pale, with its running mean, and its validation loss as dots, over the steps."""
    from plotly import graph_objects as go

    from train.run.curves import smoothed

    figure = go.Figure()
    every, mean = _thinned(curves.train), _thinned(smoothed(curves.train))
    for name, points, colour, width in (("each step", every, _PALE, 1.2), ("training, mean", mean, _PINE, 3)):
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
    _dress(figure, height=300)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 13}}
    figure.update_layout(showlegend=True, legend=legend, uirevision="run", margin={"l": 8, "r": 16, "t": 36, "b": 8})
    figure.update_xaxes(title={"text": "Step", "font": {"size": 13}}, showgrid=False)
    figure.update_xaxes(range=[0, max(1, curves.steps)], ticksuffix="")
    figure.update_yaxes(title={"text": "Loss, nats per learnt token", "font": {"size": 13}}, gridcolor=_GRID)
    figure.update_yaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class Bars:
    """One colour of a stack: its name, and a height for each day."""

    name: str
    heights: Sequence[float]


def stacked_plot(days: Sequence[date], bars: Sequence[Bars], title: str) -> "Figure":
    """A bar for each day, one upon another; so many of them as there are colours."""
    from plotly import graph_objects as go

    # Text and not dates: a bar of one day alone would be drawn a millisecond wide.
    names = [f"{day:%b} {day.day}" if len(days) < 90 else day.isoformat() for day in days]
    figure = go.Figure(
        [
            go.Bar(
                x=names,
                y=list(one.heights),
                name=one.name,
                marker={"color": colour, "cornerradius": 3},
                hovertemplate=f"<b>{one.name}</b><br>%{{x}}: %{{y:,}}<extra></extra>",
            )
            for one, colour in zip(bars, _STACK, strict=False)
        ]
    )
    _dress(figure, height=280)
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 13}, "traceorder": "normal"}
    figure.update_layout(
        barmode="stack", showlegend=True, legend=legend, bargap=0.25, margin={"l": 8, "r": 16, "t": 36, "b": 8}
    )
    # A phone has room for five.
    told = names[:: -max(1, -(-len(names) // 5))]
    figure.update_xaxes(type="category", showgrid=False, tickangle=0, tickvals=told)
    figure.update_yaxes(
        title={"text": title, "font": {"size": 13}}, gridcolor=_GRID, rangemode="tozero", tickformat="~s"
    )
    return figure


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """So many points as a picture can show, the last one among them: the figure is sent anew every two seconds."""
    stride = max(1, len(points) // _POINTS)
    return points[(len(points) - 1) % stride :: stride] if points else points


def _dress(figure: Any, height: int) -> None:
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
