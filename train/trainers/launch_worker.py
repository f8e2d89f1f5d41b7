"""One of the processes that share a fit (`launch`): fits, and reports if it is the first.

    python -m train.trainers.launch_worker <request>

Events are JSON lines on standard output; the outcome is a file beside the request. It ends with its parent.
"""

import json
import os
import pickle
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from models.errors import ParleyError
from train.run.failures import OutOfMemory, memory_is_full
from train.run.progress import Event, silent
from train.trainers.fit_job import FitResult
from train.trainers.launch import WorkerFailure, WorkerRequest


def main(path: Path) -> int:
    """Fits as the request file says; returns the exit status."""
    request: WorkerRequest = pickle.loads(path.read_bytes())  # noqa: S301 -- written by the process that started this one
    threading.Thread(target=_exit_with_parent, args=(request.parent,), daemon=True).start()
    from accelerate import PartialState

    from train.trainers.bases import load_tokenizer
    from train.trainers.fit import fit
    from train.trainers.runtime import quiet

    first = PartialState(cpu=request.job.device.kind == "cpu").is_main_process
    outcome: FitResult | WorkerFailure
    with quiet(None, request.threads):
        try:
            outcome = fit(request.job, load_tokenizer(request.job.base), _print_event if first else silent)
        except Exception as error:  # any error must reach the process that waits
            if not isinstance(error, ParleyError):
                traceback.print_exc()  # reaches the run's log through the process that waits
            memory = isinstance(error, OutOfMemory) or memory_is_full(error)
            message = " ".join(str(error).split()) or type(error).__name__
            outcome = WorkerFailure(message, memory, getattr(error, "rows_at_once", 0))
    failed = isinstance(outcome, WorkerFailure)
    if first or failed:
        own = path.with_name(f"outcome-{os.getpid()}")
        own.write_bytes(pickle.dumps(outcome))
        own.replace(path.with_name("outcome"))
    if failed:
        os._exit(1)  # at once: the other processes wait for this one, and the launcher ends them
    PartialState().destroy_process_group()
    return 0


def _print_event(event: Event) -> None:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(event).items()}
    print(json.dumps({"event": type(event).__name__} | values), flush=True)


def _exit_with_parent(parent: int) -> None:
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
