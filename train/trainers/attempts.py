"""A fit on several processes, of this node or of all nodes: repeats attempts until one is finished on every node.

After a lost process, all nodes resume from the last checkpoint; after one that ran out of memory, with smaller
micro-batches. Each node decides from the outcomes of all nodes, so that all decide the same.
"""

import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import count

from train.run.checkpoints import CheckpointPlan, plan_checkpoints
from train.run.failures import OutOfMemory
from train.run.node import NodeLost
from train.run.progress import Progress, Stage
from train.trainers.fit_job import FEWEST_ROWS, FitJob, FitResult
from train.trainers.launch_worker import WorkerFailure, WorkerRequest
from train.trainers.rendezvous import Rendezvous
from train.trainers.worker_processes import ProcessesFailed, WorkerProcesses

RESTARTS = 3  # restarts without a new checkpoint after which a run fails
_WATCH_S = 0.5
_GRACE_S = 5.0  # for processes to notice by themselves that another one is gone


def fit_on_processes(job: FitJob, threads: int, emit: Progress, rendezvous: Rendezvous | None = None) -> FitResult:
    """Runs a fit on `job.processes`.

    Args:
        threads: CPU threads of all processes of this node together.
        rendezvous: the other nodes, if there are any.

    Raises:
        ProcessesFailed, OutOfMemory. NodeLost: another node is gone. What `emit` raises.
    """
    restarts, resumed_at = 0, -1
    with WorkerProcesses(job.device.kind, threads, rendezvous.node if rendezvous else None) as processes:
        for attempt in count():
            if rendezvous:
                job = replace(job, checkpoints=_share_plan(job, rendezvous, attempt, emit))
            outcome = _run(processes, processes.request(job, attempt), emit, rendezvous)
            failures = _exchange(outcome, rendezvous, attempt)
            if isinstance(outcome, FitResult) and not any(failures):
                return outcome
            failure = worst_failure(failures)
            step = job.checkpoints.start.step if job.checkpoints.start else 0
            restarts, resumed_at = (restarts if step == resumed_at else 0), step
            if failure.kind == "memory":
                job = _with_smaller_parts(job, failure, emit)
            elif failure.kind == "error" or restarts == RESTARTS:
                more = "" if failure.kind == "error" else f", {restarts + 1} times without a new checkpoint"
                again = (
                    f" Continue with `{rendezvous.node.resume_command(rendezvous.run)}` on all nodes."
                    if rendezvous and more
                    else ""
                )
                raise ProcessesFailed(f"{failure.message.rstrip('.')}{more}.{again}" if more else failure.message)
            else:
                restarts += 1
                emit(Stage(f"{failure.message}: resuming from the last checkpoint (restart {restarts} of {RESTARTS})"))
            if rendezvous is None or rendezvous.node.first:
                plan = plan_checkpoints(job.checkpoints.run_folder, job.checkpoints.every, emit)
                rows = job.checkpoints.rows_at_most or plan.rows_at_most
                job = replace(job, checkpoints=replace(plan, rows_at_most=rows))
    raise AssertionError


def worst_failure(failures: Sequence[WorkerFailure | None]) -> WorkerFailure:
    """The failure that is the likely cause of the others; its message names the node if there are several."""
    order = ("error", "memory", "lost", "connection")
    rank, failure = min(
        ((rank, failure) for rank, failure in enumerate(failures) if failure),
        key=lambda item: order.index(item[1].kind),
    )
    message = failure.message[:1].upper() + failure.message[1:]
    return replace(failure, message=f"Node {rank}: {message}" if len(failures) > 1 else message)


def _with_smaller_parts(job: FitJob, failure: WorkerFailure, emit: Progress) -> FitJob:
    rows = failure.rows
    fewest = FEWEST_ROWS.get(job.hyperparameters.method, 1)
    most = job.checkpoints.rows_at_most
    if rows <= fewest or (most is not None and rows > most):  # no smaller micro-batch divides the batch
        raise OutOfMemory(rows)
    smaller = max(fewest, rows // 2)
    emit(Stage(describe_smaller_parts(rows, smaller)))
    return replace(job, checkpoints=replace(job.checkpoints, rows_at_most=smaller))


def describe_smaller_parts(rows: int, smaller: int) -> str:
    """The stage that reports a smaller micro-batch."""
    same = "a step still learns from the same number"
    return f"Out of memory with {rows} rows at a time: {smaller} at a time from now on, and {same}"


def _share_plan(job: FitJob, rendezvous: Rendezvous, attempt: int, emit: Progress) -> CheckpointPlan:
    """Node 0's plan for an attempt, as it applies to this node."""
    plan, first = job.checkpoints, rendezvous.node.first
    values = rendezvous.exchange(f"plan/{attempt}", plan.to_json() if first else None)[0]
    if first:
        return plan
    plan = plan.at_node(values, job.work / "start")
    if plan.start:
        emit(Stage(f"Resuming from step {plan.start.step}"))
    return plan


def _exchange(
    outcome: FitResult | WorkerFailure, rendezvous: Rendezvous | None, attempt: int
) -> list[WorkerFailure | None]:
    """Each node's failure, None where it finished."""
    failure = outcome if isinstance(outcome, WorkerFailure) else None
    if rendezvous is None:
        return [failure]
    values = rendezvous.exchange(f"outcome/{attempt}", asdict(failure) if failure else None)
    return [WorkerFailure(**value) if value else None for value in values]


def _run(
    processes: WorkerProcesses, request: WorkerRequest, emit: Progress, rendezvous: Rendezvous | None
) -> FitResult | WorkerFailure:
    if rendezvous is None:
        return processes.run(request, emit)
    ended = threading.Event()
    watch = threading.Thread(target=_abort_if_broken, args=(request, rendezvous, ended), daemon=True)
    watch.start()
    try:
        return processes.run(request, emit)
    finally:
        ended.set()
        watch.join()


def _abort_if_broken(request: WorkerRequest, rendezvous: Rendezvous, ended: threading.Event) -> None:
    """Ends the attempt on this node when it has failed on another. NCCL alone would wait for many minutes."""
    others = [rank for rank in range(rendezvous.node.count) if rank != rendezvous.node.rank]
    while not ended.wait(_WATCH_S):
        try:
            failed = any(rendezvous.published(f"outcome/{request.attempt}").values()) or rendezvous.lost(others)
        except NodeLost:
            failed = True
        if failed:
            ended.wait(_GRACE_S)
            request.abort.touch()
            return
