"""What a run tells while it runs, and three who listen: a terminal, plain lines, and the run's metrics.jsonl.

`Progress` is any function of one event. An exception that it raises ends the training. No torch here.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class Stage:
    """The run has come to something new, in words."""

    message: str


@dataclass(frozen=True)
class Step:
    """One optimiser step is done. Loss in nats per learnt token; tokens without padding, learnt or not."""

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None
    tokens: int
    tokens_per_s: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Validation:
    """The loss on examples that are not learnt, at a step."""

    step: int
    loss: float


Event = Stage | Step | Validation
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listens to nothing."""


def together(*listeners: Progress) -> Progress:
    """One listener that hands each event to all of them, in order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


class MetricsFile:
    """Appends every step and validation to a JSONL file, each line written through at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            return
        row: dict[str, Any] = (
            asdict(event) if isinstance(event, Step) else {"step": event.step, "validation_loss": event.loss}
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: _short(value) for name, value in row.items()}) + "\n")


class PlainLines:
    """A line for each stage and validation, and for about twenty steps of a run: for logs and pipes."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._say(event.message)
        elif isinstance(event, Validation):
            self._say(f"validation loss {event.loss:.4f} at step {event.step}")
        elif event.step == 1 or event.step == event.steps or event.step % max(1, event.steps // 20) == 0:
            self._say(f"step {event.step}/{event.steps}  {_figures(event)}")


class Terminal:
    """A live bar with loss, tokens/s and time left. Use as a context manager, so that the bar is closed."""

    def __init__(self, console: Console | None = None) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=False,
        )
        self._task: Any = None

    def __enter__(self) -> "Terminal":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        from rich.markup import escape

        if isinstance(event, Stage):
            # Escaped: a folder's name may hold [brackets].
            self._bar.console.print(f"[dim]•[/dim] {escape(event.message)}", highlight=False)
        elif isinstance(event, Validation):
            self._bar.console.print(
                f"[dim]•[/dim] validation loss [bold]{event.loss:.4f}[/bold] at step {event.step}", highlight=False
            )
        else:
            if self._task is None:
                self._task = self._bar.add_task("training", total=event.steps, figures="")
            self._bar.update(self._task, completed=event.step, figures=_figures(event))


def _figures(step: Step) -> str:
    return f"loss {step.loss:.3f} · {step.tokens_per_s:,.0f} tokens/s · {duration(step.seconds_left)} left"


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
