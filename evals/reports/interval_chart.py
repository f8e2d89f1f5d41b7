"""Intervals as a picture: in the terminal, as SVG, as PNG, or as one HTML file with its table and its paragraph.

The HTML loads nothing and runs nothing. What is drawn are rows of a name, a point and an interval on one axis; what
the numbers mean is their caller's business.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from models.atomic import atomic_write
from models.errors import Invalid, NoSpace

TERMINAL = 36  # characters
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 40, 250, 30, 20, 62  # of a picture, in pixels
_INK, _SOFT, _LINE, _MARK, _SECOND, _BAND = "#1b1d22", "#5d636f", "#d9dce2", "#2c8a7e", "#d9714b", "#f0eee8"
_NAME = 34  # characters of a name that fit
_STYLE = """
body { margin: 0 auto; max-width: 900px; padding: 28px 16px 56px; color: #1b1d22;
font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 8px; } svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: 5px 12px 5px 0;
border-bottom: 1px solid #d9dce2; font-variant-numeric: tabular-nums; } li, p { max-width: 70ch; }
"""


@dataclass(frozen=True)
class Interval:
    """One row of a plot. `second` is another estimate of the same, drawn under it; `sure` False is drawn hollow."""

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


@dataclass(frozen=True)
class _Shape:
    """A line, a dot, a box or a text, in pixels; the backends draw nothing else."""

    kind: str
    at: tuple[float, float, float, float]
    colour: str
    text: str = ""
    anchor: str = "start"
    fill: bool = True


def interval_line(low: float, middle: float, high: float, start: float, end: float, width: int = TERMINAL) -> str:
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


def axis_line(start: float, end: float, unit: str = "", width: int = TERMINAL) -> str:
    """The ends of an axis as text, as wide as `interval_line`."""
    left, right = f"{start:.0f}{unit}", f"{end:.0f}{unit}"
    return left.ljust(width - len(right)) + right


def write_plot(path: Path, plot: Plot, title: str, table: Sequence[Sequence[str]], text: Sequence[str]) -> None:
    """Writes a plot as .html (with title, table and text), .svg or .png.

    Args:
        table: rows of cells, the header first.

    Raises:
        Invalid: another ending, or it cannot be written there. NoSpace: the disk is full.
    """
    match path.suffix.lower():
        case ".html":
            data = page(plot, title, table, text).encode("utf-8", "replace")
        case ".svg":
            data = svg(plot).encode("utf-8", "replace")
        case ".png":
            data = png(plot)
        case other:
            raise Invalid(f"A plot ends in .html, .svg or .png, not {other or 'nothing'!r}.", param="plot")
    if path.is_dir():
        raise Invalid(f"{path} is a folder: name a file.", param="plot")
    try:
        atomic_write(path, data)
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="plot") from error


def page(plot: Plot, title: str, table: Sequence[Sequence[str]], text: Sequence[str]) -> str:
    """One HTML file: paragraph, plot, table, notes. Everything is escaped, for names come from people."""
    head, *rows = table
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    first, *notes = text
    more = f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(first)}</p>"
        f"<div class='wide'>{svg(plot)}</div>{more}"
        f"<div class='wide'><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div></html>\n"
    )


def svg(plot: Plot) -> str:
    """The plot as an SVG element that stands alone too."""
    height = _height(plot)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' height='{height}' "
        "font-family='system-ui, sans-serif' font-size='14'>"
        f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>"
    ]
    for shape in _shapes(plot):
        a, b, c, d = (f"{number:.1f}" for number in shape.at)
        match shape.kind:
            case "line":
                parts.append(f"<line x1='{a}' y1='{b}' x2='{c}' y2='{d}' stroke='{shape.colour}' stroke-width='2'/>")
            case "box":
                size = f"width='{shape.at[2] - shape.at[0]:.1f}' height='{shape.at[3] - shape.at[1]:.1f}'"
                parts.append(f"<rect x='{a}' y='{b}' {size} fill='{shape.colour}'/>")
            case "dot":
                fill = shape.colour if shape.fill else "#ffffff"
                circle = f"<circle cx='{a}' cy='{b}' r='{c}' fill='{fill}' stroke='{shape.colour}' stroke-width='2'/>"
                parts.append(circle)
            case _:
                words = escape(shape.text)
                parts.append(f"<text x='{a}' y='{b}' fill='{shape.colour}' text-anchor='{shape.anchor}'>{words}</text>")
    return "".join([*parts, "</svg>"])


def png(plot: Plot, scale: int = 2) -> bytes:
    """The plot as a PNG, `scale` pixels for each of the SVG's."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_WIDTH * scale, _height(plot) * scale), "#ffffff")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(14 * scale)
    for shape in _shapes(plot):
        a, b, c, d = (number * scale for number in shape.at)
        match shape.kind:
            case "line":
                draw.line((a, b, c, d), fill=shape.colour, width=2 * scale)
            case "box":
                draw.rectangle((a, b, c, d), fill=shape.colour)
            case "dot":
                fill = shape.colour if shape.fill else "#ffffff"
                draw.ellipse((a - c, b - c, a + c, b + c), fill=fill, outline=shape.colour, width=2 * scale)
            case _:
                anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
                draw.text((a, b), shape.text, fill=shape.colour, font=font, anchor=anchor)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _height(plot: Plot) -> int:
    return _TOP + _ROW * len(plot.rows) + _BOTTOM


def _shapes(plot: Plot) -> list[_Shape]:
    span = plot.end - plot.start
    bottom = _TOP + _ROW * len(plot.rows)

    def x(value: float) -> float:
        share = (value - plot.start) / span if span > 0 else 0.5
        return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)

    found = []
    if plot.band:
        found.append(_Shape("box", (x(plot.band[0]), _TOP, x(plot.band[1]), bottom), _BAND))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = plot.start + share * span
        found.append(_Shape("line", (x(value), _TOP, x(value), bottom), _LINE))
        found.append(_Shape("text", (x(value), bottom + 20, 0, 0), _SOFT, f"{value:.0f}{plot.unit}", "middle"))
    for i, row in enumerate(plot.rows):
        y = _TOP + _ROW * (i + 0.5)
        name = row.name if len(row.name) <= _NAME else row.name[: _NAME - 1] + "…"
        found.append(_Shape("text", (_LEFT - 16, y + 5, 0, 0), _INK, name, "end"))
        estimates = [((row.value, row.low, row.high), _MARK, y - 6 if row.second else y)]
        if row.second:
            estimates.append((row.second, _SECOND, y + 7))
        for (value, low, high), colour, height in estimates:
            found.append(_Shape("line", (x(low), height, x(high), height), colour))
            found += [_Shape("line", (x(end), height - 4, x(end), height + 4), colour) for end in (low, high)]
            found.append(_Shape("dot", (x(value), height, 5, 0), colour, fill=row.sure))
    found.append(_Shape("text", (_LEFT, bottom + 46, 0, 0), _SOFT, plot.axis))
    if plot.legend:
        for i, (name, colour) in enumerate(zip(plot.legend, (_MARK, _SECOND), strict=True)):
            left = _LEFT + 330 + 100 * i
            found.append(_Shape("dot", (left, bottom + 41, 5, 0), colour))
            found.append(_Shape("text", (left + 10, bottom + 46, 0, 0), _SOFT, name))
    return found
