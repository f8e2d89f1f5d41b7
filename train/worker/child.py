"""The process that a training job runs in: a request as JSON on standard input, JSON lines on standard output.

Input: {"request": what `TrainingRequest.from_json` reads, "out": the run's folder}. Lines: {"stage": text},
{"step": …}, {"validation": …}, {"checkpoint": …} as `train.run.progress` has them, and last {"result": …} or {"error":
text, code, param}. Nothing else reaches standard output: what libraries print goes to standard error. The process ends
with its parent, whose process id is its argument.
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
from typing import TYPE_CHECKING, Any, Protocol

from models.errors import ParleyError
from train.request import TrainingRequest
from train.run.progress import Checkpoint, Event, Stage, Step, Validation

if TYPE_CHECKING:
    from models.registry.registry import Registry
    from models.settings.settings import Settings
    from train.run.folder import TrainingResult

WriteLine = Callable[[dict[str, Any]], None]


class Result(Protocol):
    """A result that can be written as a line."""

    def to_json(self) -> dict[str, Any]:
        """Its values."""
        ...


Work = Callable[[dict[str, Any], "Registry", "Settings", WriteLine], Result]


def main(work: Work | None = None) -> int:
    """Reads the request, does the work (by default, trains and publishes), and returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parent = int(sys.argv[1]) if sys.argv[1:] else os.getppid()
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of a library, from Python or C, must not be mistaken for a line of ours

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line, ensure_ascii=False), file=stream, flush=True)

    try:
        result = _run(json.loads(sys.stdin.read()), work or _train, write)
    except ParleyError as error:
        write({"error": str(error), "code": error.code, "param": error.param})
        return error.exit_code
    write({"result": result})
    return 0


def _run(values: dict[str, Any], work: Work, write: WriteLine) -> dict[str, Any]:
    from models.database import open_database
    from models.registry.registry import Registry
    from models.settings.hub import use_hub_token
    from models.settings.settings import load_settings

    settings = load_settings()
    use_hub_token(settings.hub_token)
    database = open_database(settings)
    try:
        return work(values, Registry(database), settings, write).to_json()
    finally:
        database.dispose()


def _train(values: dict[str, Any], registry: "Registry", settings: "Settings", write: WriteLine) -> "TrainingResult":
    request = TrainingRequest.from_json(values.get("request") or {})
    from train.training import train

    emit = EventLines(write)
    return train(request, settings=settings, registry=registry, out=Path(values["out"]), resume=True, progress=emit)


class EventLines:
    """Writes events as lines. `publish_checkpoint` registers a checkpoint as a model and returns its name, or None."""

    def __init__(self, write: WriteLine, publish_checkpoint: Callable[[Checkpoint], str | None] | None = None) -> None:
        self._write, self._publish_checkpoint = write, publish_checkpoint

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._write({"stage": event.message})
        elif isinstance(event, Step):
            self._write({"step": asdict(event)})
        elif isinstance(event, Validation):
            self._write({"validation": asdict(event)})
        elif isinstance(event, Checkpoint):
            # Here, while training waits: a moment later the checkpoint's folder may be gone.
            model = self._publish_checkpoint(event) if self._publish_checkpoint else None
            self._write({"checkpoint": {"step": event.step, "epoch": event.epoch, "model": model}})


def _exit_with_parent(parent: int) -> None:
    """Ends this process when the worker is gone: nobody would receive the result, and nobody would stop it."""
    while os.getppid() == parent:
        time.sleep(1)
    if os.getpgid(0) == os.getpid():  # the worker gives it a session of its own: its programs end too
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
