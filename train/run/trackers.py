"""Optional experiment trackers: Weights & Biases, TensorBoard, Trackio.

A tracker receives the run's events like any listener, so all methods and metrics are tracked alike. Users install the
libraries; each reads its account and address from its usual place.
"""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.hyperparameters import Chosen
from train.run.progress import Event, Progress, Step, Validation, combine_listeners, validation_row

# By tracker: the module that it needs.
TRACKERS: Mapping[str, str] = {"wandb": "wandb", "tensorboard": "tensorboard", "trackio": "trackio"}
_PROJECT = "parley"


def check_trackers(names: Sequence[str]) -> None:
    """Checks names before anything is loaded.

    Raises:
        Invalid: an unknown tracker, or one that is not installed; with the command that installs it.
    """
    for name in names:
        if name not in TRACKERS:
            raise Invalid(f"There is no tracker {name!r}: use {', '.join(TRACKERS)}.", param="tracker")
        if importlib.util.find_spec(TRACKERS[name]) is None:
            raise Invalid(f"The tracker {name} is not installed: `pip install {name}`.", param="tracker")


@contextmanager
def tracking(names: Sequence[str], folder: Path, run: str | None, hyperparameters: Chosen) -> Iterator[Progress]:
    """Passes steps and validations to each named tracker, and closes them at the end.

    Args:
        names: as in `check_trackers`. folder: the run's; TensorBoard writes to `tensorboard/` in it.
        run: the run's name in the tracker; by default its folder's name.
        hyperparameters: logged once, as the run's configuration.
    """
    openers = {"wandb": _wandb, "tensorboard": _tensorboard, "trackio": _trackio}
    with ExitStack() as stack:
        yield combine_listeners(
            *(stack.enter_context(openers[name](folder, run or folder.name, asdict(hyperparameters))) for name in names)
        )


@contextmanager
def _wandb(folder: Path, run: str, config: dict[str, Any]) -> Iterator[Progress]:
    with open_wandb(project=_PROJECT, name=run, config=config, dir=str(folder)) as emit:
        yield emit


@contextmanager
def open_wandb(**options: Any) -> Iterator[Progress]:
    """A wandb run with the options of `wandb.init`, closed at the end."""
    wandb: Any = import_module("wandb")
    opened = wandb.init(**options)
    with opened:
        yield tracked(lambda row, step: opened.log(row, step=step))


@contextmanager
def _tensorboard(folder: Path, run: str, config: dict[str, Any]) -> Iterator[Progress]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_text("configuration", "\n".join(f"    {name}: {value}" for name, value in config.items()))

        def log(row: Mapping[str, float], step: int) -> None:
            for name, value in row.items():
                writer.add_scalar(name, value, step)

        yield tracked(log)


@contextmanager
def _trackio(folder: Path, run: str, config: dict[str, Any]) -> Iterator[Progress]:
    trackio: Any = import_module("trackio")
    with redirect_stdout(sys.stderr):  # it prints to standard output, which --json reserves for one object
        trackio.init(project=_PROJECT, name=run, config=config)
    try:
        yield tracked(lambda row, step: trackio.log(dict(row), step=step))
    finally:
        with redirect_stdout(sys.stderr):
            trackio.finish()


def tracked(log: Any) -> Progress:
    """A receiver that logs the metrics of steps and validations, each at its step."""

    def emit(event: Event) -> None:
        if not isinstance(event, Step | Validation):
            return
        row = asdict(event) if isinstance(event, Step) else validation_row(event)
        step = row.pop("step")
        log({_named(name): value for name, value in row.items() if value is not None}, step)

    return emit


def _named(name: str) -> str:
    """`train/loss`, `validation/loss`: trackers group metrics by this prefix."""
    part, _, rest = name.partition("_")
    return f"validation/{rest}" if part == "validation" else f"train/{name}"
