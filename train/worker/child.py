"""The process that a training job runs in: parameters on standard input, one JSON line for each thing told.

Lines: {"stage": text}, {"waiting": text}, {"step": …}, {"validation": …}, {"checkpoint": …} as `train.run.progress` has
them, and last {"result": …} or {"error": text, code, param}. Nothing else gets to standard output: what libraries
print goes to standard error. It ends with its parent.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from models.errors import Invalid, ParleyError
from train.run.progress import Checkpoint, Event, Progress, Stage, Step, Validation

if TYPE_CHECKING:
    from models.registry import Registry
    from models.settings import Settings
    from train.run.result import TrainingResult


def main() -> int:
    """Reads the request, trains, publishes; returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    tell = _Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # a library's word, from Python or from C, must not be taken for one of ours
    try:
        result = _train(json.loads(sys.stdin.read()), tell)
    except ParleyError as error:
        tell({"error": str(error), "code": error.code, "param": error.param})
        return error.exit_code
    tell({"result": result})
    return 0


class _Teller:
    """Writes JSON lines to the parent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, line: dict[str, Any]) -> None:
        print(json.dumps(line, ensure_ascii=False), file=self._stream, flush=True)


def _train(request: dict[str, Any], tell: _Teller) -> dict[str, Any]:
    from models.database import open_database
    from models.registry import Registry
    from models.settings import load_settings

    if missing := [name for name in ("data", "base", "name") if not request.get(name)]:
        raise Invalid(f"A training job needs {missing[0]!r}.", param=missing[0])
    settings = load_settings()
    database = open_database(settings)
    try:
        registry = Registry(database)
        if "fine_tuning" in request:
            result = _fine_tuned(request, registry, settings, tell)
        else:
            result = _result(request, registry, settings, _Told(tell))
    finally:
        database.dispose()
    return result.as_json()


def _fine_tuned(request: dict[str, Any], registry: "Registry", settings: "Settings", tell: _Teller) -> "TrainingResult":
    """A job of the fine-tuning API: it waits for memory, and its checkpoints become models."""
    from train.finetuning.checkpoint_models import EpochModels
    from train.finetuning.integrations import wandb_run
    from train.finetuning.memory import wait_for_memory
    from train.run.progress import together
    from train.run.result import RESULT

    out = Path(request["out"])
    if not (out / RESULT).is_file():
        wait_for_memory(request, registry, settings, tell)
    models = EpochModels(request["name"], request["base"], request["job"], registry, settings)
    told = _Told(tell, models)
    for checkpoint in models.kept(out):
        told(checkpoint)
    with wandb_run(request["fine_tuning"]["wandb"], request["job"], request["base"], out) as tracker:
        return _result(request, registry, settings, together(told, tracker))


def _result(request: dict[str, Any], registry: "Registry", settings: "Settings", told: Progress) -> "TrainingResult":
    from train.data.readers import Columns
    from train.hyperparameters import Hyperparameters
    from train.training import train

    validation = request.get("validation", 0.1)
    return train(
        Path(request["data"]),
        base=request["base"],
        name=request["name"],
        method=request.get("method", "sft"),
        kind=request.get("kind", "adapter"),
        settings=settings,
        registry=registry,
        out=Path(request["out"]) if "out" in request else None,
        resume="out" in request,
        hyperparameters=Hyperparameters.from_dict(request.get("hyperparameters") or {}),
        validation=Path(validation) if isinstance(validation, str) else validation,
        columns=Columns(**request.get("columns") or {}),
        progress=told,
        trackers=request.get("trackers", ()),
        gpus=request.get("gpus", 1),
        threads=request.get("threads"),
        job=request.get("job"),
    )


class _Told:
    """Turns events into lines. `models` makes a checkpoint a model and returns its name, where it is to be one."""

    def __init__(self, tell: _Teller, models: Callable[[Checkpoint], str | None] | None = None) -> None:
        self._tell, self._models = tell, models

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._tell({"stage": event.message})
        elif isinstance(event, Step):
            self._tell({"step": asdict(event)})
        elif isinstance(event, Validation):
            self._tell({"validation": asdict(event)})
        elif isinstance(event, Checkpoint):
            # In here, while training waits: a moment later the checkpoint's folder may be gone.
            model = self._models(event) if self._models else None
            self._tell({"checkpoint": {"step": event.step, "epoch": event.epoch, "model": model}})


def _end_with_parent(parent: int) -> None:
    """Ends this process when the worker has gone: nobody would hear the result, and nobody would end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
