"""A run's loss curves: read from metrics.jsonl while it grows, and drawn as an SVG for a model's card. No torch."""

import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

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
        return _svg(title, f'<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle">no steps yet</text>')
    last_step = max(1, *(step for step, _ in points))
    low, high = min(0.0, *(loss for _, loss in points)), max(loss for _, loss in points)
    scale = _Scale(last_step, low, high if high > low else low + 1)
    parts = [scale.grid()]
    if curves.train:
        parts.append(scale.line(curves.train, _LEARNT, 1, 0.35))
        parts.append(scale.line(smoothed(curves.train), _LEARNT, 2.2, 1))
    if curves.validation:
        parts.append(scale.line(curves.validation, _HELD, 2.2, 1))
        parts += [scale.dot(step, loss) for step, loss in curves.validation]
    return _svg(title, "".join(parts))


@dataclass(frozen=True)
class _Scale:
    last_step: int
    low: float
    high: float

    def x(self, step: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.last_step, 1)

    def y(self, loss: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        return round(_TOP + height * (1 - (loss - self.low) / (self.high - self.low)), 1)

    def line(self, points: tuple[tuple[int, float], ...], colour: str, width: float, opacity: float) -> str:
        path = " ".join(f"{self.x(step)},{self.y(loss)}" for step, loss in points)
        return (
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-linejoin="round" opacity="{opacity}"/>'
        )

    def dot(self, step: int, loss: float) -> str:
        return f'<circle cx="{self.x(step)}" cy="{self.y(loss)}" r="3.5" fill="{_HELD}"/>'

    def grid(self) -> str:
        parts = []
        for value in _ticks(self.low, self.high):
            y = self.y(value)
            parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="{_GRID}" opacity=".5"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        for value in _ticks(0, self.last_step):
            if value == int(value):
                x, y = self.x(value), _HEIGHT - _BOTTOM + 18
                parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{value:,.0f}</text>')
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">step</text>')
        return "".join(parts)


def _svg(title: str, body: str) -> str:
    key = (
        f'<text x="{_LEFT}" y="20" fill="{_LEARNT}">training loss</text>'
        f'<text x="{_LEFT + 110}" y="20" fill="{_HELD}">validation loss</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="20" text-anchor="end">nats per learnt token</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="12" fill="{_TEXT}">'
        f"<title>{escape(title)}</title>{key}{body}</svg>\n"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step)
    return [round((first + index) * step, 10) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
