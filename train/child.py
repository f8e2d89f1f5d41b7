"""The process that a training job runs in: parameters on standard input, one JSON line for each thing told.

Lines: {"progress": 0..1, "message": …}, and last {"result": …} or {"error": …}. Nothing else gets to standard
output: what libraries print goes to standard error. It ends with its parent.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from models.errors import Invalid, ParleyError
from train.progress import Event, Stage, Step, Validation, duration

_EVERY_S = 0.5  # steps are told this often at most: each is a write to the database on the other side


def main() -> int:
    """Reads the request, trains, publishes; returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    tell = _Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # a library's word, from Python or from C, must not be taken for one of ours
    try:
        result = _train(json.loads(sys.stdin.read()), tell)
    except ParleyError as error:
        tell({"error": str(error)})
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
    from train.data.readers import Columns
    from train.hyperparameters import Hyperparameters
    from train.training import train

    if missing := [name for name in ("data", "base", "name") if not request.get(name)]:
        raise Invalid(f"A training job needs {missing[0]!r}.", param=missing[0])
    settings = load_settings()
    database = open_database(settings)
    try:
        result = train(
            Path(request["data"]),
            base=request["base"],
            name=request["name"],
            kind=request.get("kind", "adapter"),
            settings=settings,
            registry=Registry(database),
            hyperparameters=Hyperparameters.from_dict(request.get("hyperparameters") or {}),
            validation=request.get("validation", 0.1),
            columns=Columns(**request.get("columns") or {}),
            progress=_Told(tell),
            threads=request.get("threads"),
            job=request.get("job"),
        )
    finally:
        database.dispose()
    return result.as_json()


class _Told:
    """Turns events into lines; the last hundredth of the progress is the publication's."""

    def __init__(self, tell: _Teller) -> None:
        self._tell = tell
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stage):
            self._tell({"message": event.message})
        elif isinstance(event, Validation):
            self._tell({"message": f"validation loss {event.loss:.3f} at step {event.step}"})
        elif isinstance(event, Step) and (time.monotonic() - self._last > _EVERY_S or event.step == event.steps):
            self._last = time.monotonic()
            message = f"step {event.step}/{event.steps}, loss {event.loss:.3f}, {duration(event.seconds_left)} left"
            self._tell({"progress": 0.99 * event.step / event.steps, "message": message})


def _end_with_parent(parent: int) -> None:
    """Ends this process when the worker has gone: nobody would hear the result, and nobody would end it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
