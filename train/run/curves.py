"""A run's loss curves: read from metrics.jsonl while it grows, and drawn as an SVG for a model's card. No torch."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.chart_svg import Dot, Label, Line, Scale, Shape, render_svg

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 40
# Readable on light and dark backgrounds, because a hub shows cards on both.
_TEXT, _GRID, _LEARNT, _HELD = "#7d837f", "#b9bdb8", "#2c8a7e", "#d9714b"


@dataclass(frozen=True)
class Curves:
    """The metrics of a run so far. Points are (step, loss in nats per learnt token); `last` is the last step's line."""

    train: tuple[tuple[int, float], ...] = ()
    validation: tuple[tuple[int, float], ...] = ()
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The last optimiser step."""
        return int(self.last.get("step", 0))

    @property
    def steps(self) -> int:
        """The number of steps in all."""
        return int(self.last.get("steps", 0))


def read_curves(path: Path) -> Curves:
    """The curves of a metrics.jsonl; empty if it does not exist yet. An incomplete last line is skipped.

    If a step occurs twice, as after a resume, the last line counts.
    """
    train: dict[int, float] = {}
    validation: dict[int, float] = {}
    last: dict[str, Any] = {}
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return Curves()
    for line in lines:
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            continue
        if _finite(row.get("validation_loss")):
            validation[step] = float(row["validation_loss"])
        elif _finite(row.get("loss")):
            train[step] = float(row["loss"])
            last = row
    return Curves(tuple(sorted(train.items())), tuple(sorted(validation.items())), last)


def smoothed(points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    """A running mean over about 1/15 of the points, because single batches vary."""
    reach = max(1, len(points) // 30)
    mean: list[tuple[int, float]] = []
    for position, (step, _) in enumerate(points):
        near = [loss for _, loss in points[max(0, position - reach) : position + reach + 1]]
        mean.append((step, sum(near) / len(near)))
    return tuple(mean)


def draw_svg(curves: Curves, title: str) -> str:
    """The curves as an SVG: training loss pale, its running mean and the validation loss bold."""
    points = (*curves.train, *curves.validation)
    if not points:
        return render_svg([Label(_WIDTH / 2, _HEIGHT / 2, "no steps yet", _TEXT, "middle")], (_WIDTH, _HEIGHT), title)
    last_step = max(1, *(step for step, _ in points))
    low, high = min(0.0, *(loss for _, loss in points)), max(loss for _, loss in points)
    high = high if high > low else low + 1
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x, y = Scale(0, last_step, _LEFT, right), Scale(low, high, bottom, _TOP)

    def line(points: tuple[tuple[int, float], ...], colour: str, width: float, opacity: float = 1) -> Line:
        return Line(tuple((x(step), y(loss)) for step, loss in points), colour, width, opacity)

    shapes: list[Shape] = [
        Label(_LEFT, 20, "training loss", _LEARNT),
        Label(_LEFT + 110, 20, "validation loss", _HELD),
        Label(right, 20, "loss (lower is better)", _TEXT, "end"),
        Label(right, _HEIGHT - 6, "step", _TEXT, "end"),
    ]
    for value in _ticks(low, high):
        shapes.append(Line(((_LEFT, y(value)), (right, y(value))), _GRID, 1, 0.5))
        shapes.append(Label(_LEFT - 8, y(value) + 4, f"{value:g}", _TEXT, "end"))
    whole = [value for value in _ticks(0, last_step) if value == int(value)]
    shapes += [Label(x(value), bottom + 18, f"{value:,.0f}", _TEXT, "middle") for value in whole]
    shapes += [line(curves.train, _LEARNT, 1, 0.35), line(smoothed(curves.train), _LEARNT, 2.2)]
    shapes.append(line(curves.validation, _HELD, 2.2))
    shapes += [Dot(x(step), y(loss), 2.5, _HELD) for step, loss in curves.validation]
    return render_svg(shapes, (_WIDTH, _HEIGHT), title) + "\n"


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step)
    return [round((first + index) * step, 10) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
