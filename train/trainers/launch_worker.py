"""One of the processes that share a training: fits as it is told, and tells if it is the first (`launching`).

    python -m train.trainers.launch_worker <request>

Events are JSON lines on standard output; how it ended is in a file beside the request. It ends with who started it.
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
from typing import Any

from models.errors import ParleyError
from train.run.failures import OutOfMemory, memory_is_full
from train.run.progress import Event, silent
from train.trainers.launch import Request


def main(path: Path) -> int:
    """One of the processes: fits, and tells if it is the first."""
    request: Request = pickle.loads(path.read_bytes())  # noqa: S301 -- written by the process that started this one
    threading.Thread(target=_end_with, args=(request.parent,), daemon=True).start()
    from accelerate import PartialState

    from train.trainers.bases import load_tokenizer
    from train.trainers.fit import fit
    from train.trainers.library_output import quiet

    device = request.arguments["place"].device
    first = PartialState(cpu=device == "cpu").is_main_process
    outcome: Any
    with quiet(None, request.threads):
        arguments = request.arguments | {"progress": _tell if first else silent}
        try:
            outcome = fit(tokenizer=load_tokenizer(arguments["base"]), **arguments)
        except Exception as error:  # whatever it is, the process that waits must hear of it
            if not isinstance(error, ParleyError):
                traceback.print_exc()  # into the run's log, by way of the process that waits
            rows, memory = getattr(error, "rows_at_once", 0), isinstance(error, OutOfMemory) or memory_is_full(error)
            said = " ".join(str(error).split()) or type(error).__name__
            outcome = {"error": said, "memory": memory, "rows": rows}
    failed = isinstance(outcome, dict)
    if first or failed:
        own = path.with_name(f"outcome-{os.getpid()}")
        own.write_bytes(pickle.dumps(outcome))
        own.replace(path.with_name("outcome"))
    if failed:
        os._exit(1)  # at once: the others wait for this one, and the launcher ends them
    PartialState().destroy_process_group()
    return 0


def _tell(event: Event) -> None:
    """One JSON line on standard output."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(event).items()}
    print(json.dumps({"event": type(event).__name__} | values), flush=True)


def _end_with(parent: int) -> None:
    """Ends this process when who waits for it is gone."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
