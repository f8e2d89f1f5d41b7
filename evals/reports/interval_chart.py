"""Charts of intervals: in the terminal, inline in a table, as SVG, as PNG, and as one HTML file with its table.

A chart is rows of a name, a point and an interval on one axis.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from evals.reports.report_file import write_file
from models.chart_svg import Box, Dot, Label, Line, Scale, Shape, render_svg
from models.errors import Invalid
from models.html_page import page, table

TERMINAL_WIDTH = 36  # characters
_CELL_WIDTH, _CELL_HEIGHT, _CELL_PAD = 320, 22, 10  # of an interval in a table, in pixels
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 40, 250, 30, 20, 62  # of a chart, in pixels
_NAME = 34  # characters of a name that fit
_FONT = 14


@dataclass(frozen=True)
class _Palette:
    ink: str
    soft: str
    line: str
    mark: str
    second: str
    band: str
    paper: str


_PAGE = _Palette(*(f"var(--{name})" for name in ("ink", "soft", "line", "mark", "second", "band", "paper")))
_FILE = _Palette("#1b1d22", "#5d636f", "#d9dce2", "#2c8a7e", "#d9714b", "#f0eee8", "#ffffff")


@dataclass(frozen=True)
class Span:
    """A mean with its interval; None if it is not known."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Interval:
    """One row of a chart. `second` is another estimate, drawn below it; `sure` False is drawn hollow."""

    name: str
    value: float
    low: float
    high: float
    sure: bool = True
    second: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Plot:
    """Rows on one axis from `start` to `end`; `band` is shaded, and numbers on the axis end in `unit`."""

    rows: tuple[Interval, ...]
    start: float
    end: float
    axis: str
    unit: str = ""
    band: tuple[float, float] | None = None
    legend: tuple[str, str] | None = None


def interval_line(interval: tuple[float, float, float], axis: tuple[float, float], width: int = TERMINAL_WIDTH) -> str:
    """An interval (low, middle, high) as text, `├──●──┤`, on an axis (start, end); values outside are clamped."""
    scale = Scale(*axis, 0, width - 1)
    low, middle, high = (round(scale(value)) for value in interval)
    line = [" "] * width
    for i in range(low, high + 1):
        line[i] = "─"
    line[low], line[high] = "├", "┤"
    line[middle] = "●"
    return "".join(line)


def axis_line(start: float, end: float, unit: str = "", width: int = TERMINAL_WIDTH) -> str:
    """The ends of an axis as text, as wide as `interval_line`."""
    left, right = f"{start:.0f}{unit}", f"{end:.0f}{unit}"
    return left.ljust(width - len(right)) + right


def axis_cell(start: float, end: float) -> str:
    """The ends of an axis as SVG, for the head of a table."""
    labels = [
        Label(_CELL_PAD, 11, f"{start:.3g}", _PAGE.soft),
        Label(_CELL_WIDTH - _CELL_PAD, 11, f"{end:.3g}", _PAGE.soft, "end"),
    ]
    return render_svg(labels, (_CELL_WIDTH, 14), f"from {start:.3g} to {end:.3g}", font_size=11)


def interval_cell(span: Span, axis: tuple[float, float], wide: Span | None = None) -> str:
    """An interval as SVG for a table's cell, on an axis (start, end); the wide one thin behind it, a line at zero."""
    scale = Scale(*axis, _CELL_PAD, _CELL_WIDTH - _CELL_PAD)
    middle = _CELL_HEIGHT / 2
    shapes: list[Shape] = [Line(((_CELL_PAD, middle), (_CELL_WIDTH - _CELL_PAD, middle)), _PAGE.line, 1)]
    if axis[0] < 0 < axis[1]:
        shapes.append(Line(((scale(0), 2), (scale(0), _CELL_HEIGHT - 2)), _PAGE.line, 1))
    for row, width in ((wide, 1), (span, 2)):
        if row and row.low is not None and row.high is not None:
            shapes += _whiskers(scale(row.low), scale(row.high), middle, _PAGE.mark, width)
    if span.mean is not None:
        shapes.append(Dot(scale(span.mean), middle, 4, _PAGE.mark))
    values = (span.mean, span.low, span.high)
    title = " ".join("–" if value is None else f"{value:.3g}" for value in values)
    return render_svg(shapes, (_CELL_WIDTH, _CELL_HEIGHT), title)


def write_plot(path: Path, plot: Plot, title: str, cells: Sequence[Sequence[str]], text: Sequence[str]) -> None:
    """Writes a chart as .html (with title, table and text), .svg or .png.

    Args:
        cells: the table's rows, the header first.

    Raises:
        Invalid: another ending, or the file cannot be written.
        NoSpace: the disk is full.
    """
    match path.suffix.lower():
        case ".html":
            data: str | bytes = plot_page(plot, title, cells, text)
        case ".svg":
            data = svg(plot)
        case ".png":
            data = png(plot)
        case other:
            raise Invalid(f"A chart's file ends in .html, .svg or .png, not {other or 'nothing'!r}.", param="plot")
    write_file(path, data, "plot")


def plot_page(plot: Plot, title: str, cells: Sequence[Sequence[str]], text: Sequence[str]) -> str:
    """One HTML file: a paragraph, the chart, notes, the table."""
    head, *rows = ([escape(cell) for cell in row] for row in cells)
    first, *rest = text
    items = f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in rest)}</ul>" if rest else ""
    chart = f"<div class=wide>{_render(plot, _PAGE)}</div>"
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(first)}</p>{chart}{items}{table(head, rows)}")


def svg(plot: Plot) -> str:
    """The chart as an SVG file."""
    return _render(plot, _FILE)


def png(plot: Plot, scale: int = 2) -> bytes:
    """The chart as a PNG, `scale` pixels for each of the SVG's."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_WIDTH * scale, _height(plot) * scale), _FILE.paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_FONT * scale)
    for shape in _shapes(plot, _FILE):
        match shape:
            case Line():
                points = [(x * scale, y * scale) for x, y in shape.points]
                draw.line(points, fill=shape.colour, width=round(shape.width * scale))
            case Box(x, y, width, height, colour):
                draw.rectangle([x * scale, y * scale, (x + width) * scale, (y + height) * scale], fill=colour)
            case Dot(x, y, radius, colour):
                corners = [(x - radius) * scale, (y - radius) * scale, (x + radius) * scale, (y + radius) * scale]
                draw.ellipse(corners, fill=colour if shape.filled else _FILE.paper, outline=colour, width=2 * scale)
            case Label():
                anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
                draw.text((shape.x * scale, shape.y * scale), shape.text, fill=shape.colour, font=font, anchor=anchor)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _render(plot: Plot, palette: _Palette) -> str:
    return render_svg(_shapes(plot, palette), (_WIDTH, _height(plot)), plot.axis, palette.paper, _FONT)


def _height(plot: Plot) -> int:
    return _TOP + _ROW * len(plot.rows) + _BOTTOM


def _shapes(plot: Plot, palette: _Palette) -> list[Shape]:
    bottom = _TOP + _ROW * len(plot.rows)
    x = Scale(plot.start, plot.end, _LEFT, _WIDTH - _RIGHT)
    shapes: list[Shape] = []
    if plot.band:
        left, right = x(plot.band[0]), x(plot.band[1])
        shapes.append(Box(left, _TOP, right - left, bottom - _TOP, palette.band))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = plot.start + share * (plot.end - plot.start)
        shapes.append(Line(((x(value), _TOP), (x(value), bottom)), palette.line))
        shapes.append(Label(x(value), bottom + 20, f"{value:.0f}{plot.unit}", palette.soft, "middle"))
    for i, row in enumerate(plot.rows):
        y = _TOP + _ROW * (i + 0.5)
        name = row.name if len(row.name) <= _NAME else row.name[: _NAME - 1] + "…"
        shapes.append(Label(_LEFT - 16, y + 5, name, palette.ink, "end"))
        estimates = [((row.value, row.low, row.high), palette.mark, y - 6 if row.second else y)]
        if row.second:
            estimates.append((row.second, palette.second, y + 7))
        for (value, low, high), colour, height in estimates:
            shapes += _whiskers(x(low), x(high), height, colour, 2)
            shapes.append(Dot(x(value), height, 5, colour, filled=row.sure))
    shapes.append(Label(_LEFT, bottom + 46, plot.axis, palette.soft))
    for i, (name, colour) in enumerate(zip(plot.legend or (), (palette.mark, palette.second), strict=False)):
        left = _LEFT + 330 + 100 * i
        shapes += [Dot(left, bottom + 41, 5, colour), Label(left + 10, bottom + 46, name, palette.soft)]
    return shapes


def _whiskers(low: float, high: float, y: float, colour: str, width: float) -> list[Shape]:
    ends = [Line(((x, y - 4), (x, y + 4)), colour, width) for x in (low, high)]
    return [Line(((low, y), (high, y)), colour, width), *ends]
