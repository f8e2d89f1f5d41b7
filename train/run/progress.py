"""The events of a run, and three receivers: a terminal, plain lines, and the run's metrics.jsonl. No torch.

`Progress` is any function of one event. An exception that it raises ends the training.
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
    """A new stage of the run, as a sentence."""

    message: str


@dataclass(frozen=True)
class Step:
    """One optimiser step. Loss in nats per learnt token; tokens without padding, learnt or not.

    `accuracy` is the share of learnt tokens that the model ranks first; for DPO the share of pairs whose preferred
    answer it ranks higher, and `margin` says by how much (β times the gain over the reference, in nats).
    `memory_bytes` is what the process holds at this step: GPU memory on a GPU, otherwise RAM.
    """

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
    accuracy: float | None = None
    margin: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Validation:
    """The loss on held-out examples at a step, with `accuracy` and `margin` as in Step."""

    step: int
    loss: float
    accuracy: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint is complete on disk: a kill from now on loses nothing before it.

    `folder/adapter/` (`folder/weights/` after full tuning) can be published as a model. `epoch` counts completed
    epochs; `loss` is the validation loss at this step, None if none was measured.
    """

    step: int
    epoch: float
    folder: Path
    loss: float | None


Event = Stage | Step | Validation | Checkpoint
Progress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores events."""


def combine_listeners(*listeners: Progress) -> Progress:
    """A receiver that passes each event to all of them, in order."""

    def emit(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return emit


class MetricsFile:
    """Appends every step, validation and checkpoint to a JSONL file, and flushes each line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            return
        if isinstance(event, Checkpoint):
            row: dict[str, Any] = {"step": event.step, "epoch": event.epoch, "checkpoint": event.folder.name}
        else:
            row = asdict(event) if isinstance(event, Step) else validation_row(event)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: _short(value) for name, value in row.items()}) + "\n")


def validation_row(event: Validation) -> dict[str, Any]:
    """A validation as metrics.jsonl and trackers store it, with names that differ from those of a step."""
    row: dict[str, Any] = {"step": event.step, "validation_loss": event.loss}
    for name in ("accuracy", "margin"):
        if (value := getattr(event, name)) is not None:
            row[f"validation_{name}"] = value
    return row


class PlainLines:
    """A line for each stage and validation and for about twenty steps per run, for logs and pipes."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._write(event.message)
        elif isinstance(event, Validation):
            self._write(f"validation loss {event.loss:.4f} at step {event.step}")
        elif isinstance(event, Checkpoint):
            self._write(f"checkpoint at step {event.step}")
        elif event.step == 1 or event.step == event.steps or event.step % max(1, event.steps // 20) == 0:
            self._write(f"step {event.step}/{event.steps}  {_figures(event)}")


_WIDE = 90  # columns from which a bar fits beside the figures


class Terminal:
    """A live bar with loss, tokens/s and time left. A context manager, which closes the bar."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bar

        # On a narrow terminal the figures take the whole line, because they matter most.
        self._wide = console.width >= _WIDE
        more = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None)]
        self._bar = Bar(
            *(more if self._wide else ()),
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
        elif isinstance(event, Checkpoint):
            return  # only the log lists checkpoints
        else:
            if self._task is None:
                self._task = self._bar.add_task("training", total=event.steps, figures="")
            figures = _figures(event) if self._wide else _figures(event).replace(" · ", " ")
            self._bar.update(self._task, completed=event.step, figures=figures)


def _figures(step: Step) -> str:
    parts = [f"loss {step.loss:.3f}"]
    if step.margin is not None:
        parts.append(f"margin {step.margin:.2f}")
    parts += [f"{step.tokens_per_s:,.0f} tokens/s", f"{duration(step.seconds_left)} left"]
    if step.memory_bytes:
        parts.append(f"{step.memory_bytes / 2**30:.1f} GiB")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: 48 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
