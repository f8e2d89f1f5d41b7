"""The agent of a node: starts and watches the processes of each attempt with torch's elastic agent (torchrun's).

    python -m train.trainers.elastic_agent cpu|cuda

Each line on standard input is the path of a `WorkerRequest`. When the processes of an attempt have ended, it prints a
line with the event "Ended". It exits at the end of its standard input. torch's agents do not restart processes here,
because whether there is another attempt, and from which checkpoint, depends on the outcome on all nodes (`attempts`).
"""

import json
import pickle
import sys
from pathlib import Path

from models.settings.environment import use_network_interface
from train.trainers.launch_worker import WorkerRequest, run_worker
from train.trainers.rendezvous import local_address, network_interface

_JOIN_S = 300
_STOP_S = 10


def main(device: str) -> int:
    """Runs attempts until standard input ends; returns the exit status."""
    # On a CPU, processes are forked from this one with the libraries loaded. CUDA does not survive a fork.
    if device == "cpu":
        import train.trainers.fit  # noqa: F401 -- loaded for the processes
    for line in sys.stdin:
        request: WorkerRequest = pickle.loads(Path(line.strip()).read_bytes())  # noqa: S301 -- written by our parent
        reason = run_attempt(request)
        print(json.dumps({"event": "Ended", "reason": reason}), flush=True)
    return 0


def run_attempt(request: WorkerRequest) -> str:
    """Runs the processes of one attempt on this node; returns why they ended early, or ""."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    node, count = request.node, request.job.nodes
    if node and (interface := network_interface(node)):
        use_network_interface(interface)
    config = LaunchConfig(
        min_nodes=count,
        max_nodes=count,
        nproc_per_node=request.processes,
        run_id=f"attempt-{request.attempt}",
        rdzv_backend="c10d",
        rdzv_endpoint=node.address if node else "127.0.0.1:0",
        rdzv_configs={"is_host": node is None, "join_timeout": _JOIN_S},
        local_addr=local_address(node) if node else "127.0.0.1",
        max_restarts=0,
        start_method="fork" if request.job.device.kind == "cpu" else "spawn",
        shutdown_timeout=_STOP_S,
    )
    try:
        elastic_launch(config, run_worker)(request)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        name = failure.signal_name()
        return (
            f"a process was killed by {name}" if failure.exitcode < 0 else f"a process exited with {failure.exitcode}"
        )
    except (RendezvousError, RuntimeError) as error:  # the store's errors are RuntimeErrors
        print(error, file=sys.stderr, flush=True)
        return "the connection to the other nodes was lost"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
