"""One of the processes that share a fit. It writes an outcome if it is the first process of its node, or if it fails.

`elastic_agent` starts it. Events are JSON lines on standard output; the outcome is a file beside the request. It exits
when the process that waits for it has ended.
"""

import json
import os
import pickle
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from models.errors import ParleyError
from train.run.failures import OutOfMemory, memory_is_full
from train.run.node import Node
from train.run.progress import Event, silent
from train.trainers.fit_job import FitJob, FitResult

_CONNECTION = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "store", "barrier")


@dataclass(frozen=True)
class WorkerRequest:
    """What each process of a node receives.

    Attributes:
        threads: CPU threads of each process. parent: the process that waits for them.
        attempt: the number of the attempt, which prefixes its keys in the nodes' store.
        node: this node, if there are several.
    """

    job: FitJob
    threads: int
    parent: int
    attempt: int = 0
    node: Node | None = None

    @property
    def processes(self) -> int:
        """The processes of each node."""
        return self.job.processes // self.job.nodes

    @property
    def outcome(self) -> Path:
        """Where the outcome of this attempt on this node is written."""
        return self.job.work / f"outcome-{self.attempt}"

    @property
    def abort(self) -> Path:
        """Once this file exists, the processes of the attempt end."""
        return self.job.work / f"abort-{self.attempt}"


@dataclass(frozen=True)
class WorkerFailure:
    """Why the processes of a node ended without a result.

    Attributes:
        kind: "error": a retry would fail too. "memory": a micro-batch of `rows` did not fit. "lost": a process was
            killed. "connection": another process could not be reached, usually because it was lost.
    """

    message: str
    kind: Literal["error", "memory", "lost", "connection"] = "error"
    rows: int = 0


def run_worker(request: WorkerRequest) -> None:
    """Fits as requested, within the process group of all nodes; exits with status 1 if that fails."""
    threading.Thread(target=_exit_with_parent, args=(request,), daemon=True).start()
    from accelerate import PartialState

    from train.trainers.bases import load_tokenizer
    from train.trainers.checkpoint_transfer import receive_checkpoint
    from train.trainers.fit import fit
    from train.trainers.runtime import quiet

    job, first = request.job, False
    outcome: FitResult | WorkerFailure
    with quiet(None, request.threads):
        try:
            _join_processes(request)
            first = PartialState(cpu=job.device.kind == "cpu").is_local_main_process
            if request.node and job.checkpoints.start:
                receive_checkpoint(job.checkpoints.start, first)
            outcome = fit(job, load_tokenizer(job.base), _print_event if first else silent)
        except Exception as error:  # any error must reach the process that waits
            if not isinstance(error, ParleyError):
                traceback.print_exc()  # reaches the run's log through the process that waits
            outcome = _failure(error)
    failed = isinstance(outcome, WorkerFailure)
    if first or failed:
        _write(outcome, request.outcome)
    if failed:
        os._exit(1)  # at once: the other processes wait for this one, and the agent ends them
    PartialState().destroy_process_group()


def _join_processes(request: WorkerRequest) -> None:
    """Joins the process group. Node 0's processes have the first ranks, because they write the run."""
    if request.node is None:
        return  # accelerate joins it by the agent's variables
    from accelerate.utils import get_int_from_env
    from torch.distributed import PrefixStore, TCPStore, init_process_group

    job, local = request.job, get_int_from_env(["LOCAL_RANK"], 0)
    if job.device.kind == "cuda":
        import torch

        torch.cuda.set_device(local)
    store = TCPStore(request.node.host, request.node.port, is_master=False)
    init_process_group(
        "nccl" if job.device.kind == "cuda" else "gloo",
        store=PrefixStore(f"processes/{request.attempt}", store),
        rank=request.node.rank * request.processes + local,
        world_size=job.processes,
    )


def _failure(error: Exception) -> WorkerFailure:
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OutOfMemory) or memory_is_full(error):
        return WorkerFailure(message, "memory", getattr(error, "rows_at_once", 0))
    # torch.distributed's errors are RuntimeErrors, some without a class of their own.
    broken = isinstance(error, RuntimeError | ConnectionError) and not isinstance(error, ParleyError)
    if broken and any(word in message.lower() for word in _CONNECTION):
        return WorkerFailure("the connection to another process was lost", "connection")
    return WorkerFailure(message)


def _write(outcome: FitResult | WorkerFailure, path: Path) -> None:
    own = path.with_name(f"{path.name}-{os.getpid()}")
    own.write_bytes(pickle.dumps(outcome))
    try:
        os.link(own, path)  # the first outcome of a node counts: later failures follow from it
    except FileExistsError:
        own.unlink()


def _print_event(event: Event) -> None:
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(event).items()}
    print(json.dumps({"event": type(event).__name__} | values), flush=True)


def _exit_with_parent(request: WorkerRequest) -> None:
    while not request.abort.exists():
        try:
            os.kill(request.parent, 0)
        except ProcessLookupError:
            break
        time.sleep(0.5)
    os._exit(1)
