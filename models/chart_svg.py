"""Charts for static files: shapes in pixels and their SVG. A page that may run scripts uses Plotly instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal


@dataclass(frozen=True)
class Line:
    """A line through these points."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float = 2.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A circle; `filled` False leaves its inside to the background."""

    x: float
    y: float
    radius: float
    colour: str
    filled: bool = True


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Label:
    """A text; `y` is its baseline."""

    x: float
    y: float
    text: str
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"


Shape = Line | Dot | Box | Label


@dataclass(frozen=True)
class Scale:
    """A linear axis: values from `start` to `end` on pixels from `left` to `right`; values outside are clamped."""

    start: float
    end: float
    left: float
    right: float

    def __call__(self, value: float) -> float:
        share = (value - self.start) / (self.end - self.start) if self.end > self.start else 0.5
        return self.left + min(max(share, 0.0), 1.0) * (self.right - self.left)


def render_svg(
    shapes: Sequence[Shape], size: tuple[float, float], title: str, background: str = "", font_size: int = 12
) -> str:
    """The shapes as one SVG element, inline in HTML or alone in a file.

    Args:
        size: width and height in pixels.
        title: for screen readers.
        background: a colour; transparent without one.
    """
    width, height = (f"{number:g}" for number in size)
    paper = _svg(Box(0, 0, *size, background), background) if background else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="{font_size}">'
        f"{paper}{''.join(_svg(shape, background) for shape in shapes)}</svg>"
    )


def _svg(shape: Shape, background: str) -> str:
    match shape:
        case Line(points=((x1, y1), (x2, y2))):
            ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
            return f"<line {ends} {_stroke(shape)}/>"
        case Line():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
            return f'<polyline points="{points}" fill="none" stroke-linejoin="round" {_stroke(shape)}/>'
        case Dot():
            fill = shape.colour if shape.filled else background or "none"
            place = f'cx="{shape.x:.1f}" cy="{shape.y:.1f}" r="{shape.radius:.1f}"'
            return f'<circle {place} fill="{fill}" stroke="{shape.colour}" stroke-width="2"/>'
        case Box():
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
            return f'<rect {place} fill="{shape.colour}"/>'
        case Label():
            place = f'x="{shape.x:.1f}" y="{shape.y:.1f}" fill="{shape.colour}" text-anchor="{shape.anchor}"'
            return f"<text {place}>{escape(shape.text)}</text>"


def _stroke(line: Line) -> str:
    opacity = f' opacity="{line.opacity:g}"' if line.opacity < 1 else ""
    return f'stroke="{line.colour}" stroke-width="{line.width:g}"{opacity}'
