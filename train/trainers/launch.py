"""Starts a fit, in this process or on several, and retries it with a smaller micro-batch when memory runs out.

Several processes, one for each GPU, are started by torch's elastic agent (`elastic_agent`), on this machine or on
several (`rendezvous`). They share only the fit; this process handles data, folders and publication. A batch is divided
among the processes, so that a step learns from as many rows as on one. On CPUs the processes communicate over gloo,
which serves as a test and is not faster. Each process runs `launch_worker`.
"""

import gc
from dataclasses import replace
from typing import Any

from train.run.checkpoints import plan_checkpoints
from train.run.failures import OutOfMemory, memory_is_full
from train.run.progress import Progress, Stage
from train.trainers.attempts import describe_smaller_parts, fit_on_processes
from train.trainers.fit_job import FEWEST_ROWS, FitJob, FitResult
from train.trainers.rendezvous import Rendezvous


def launch(
    job: FitJob, tokenizer: Any, threads: int, emit: Progress, rendezvous: Rendezvous | None = None
) -> FitResult:
    """Runs a fit. When a step does not fit into memory, halves the micro-batch and resumes from the last checkpoint.

    A step still learns from the same number of rows, in more parts. KTO compares two rows at least.

    Args:
        tokenizer: the base's; several processes load their own.
        threads: CPU threads of all processes on this machine together.
        rendezvous: the other machines, if there are any.

    Raises:
        OutOfMemory: a single row does not fit. ProcessesFailed, NodeLost. What `fit` and `emit` raise.
    """
    if job.processes > 1:
        return fit_on_processes(job, threads, emit, rendezvous)
    from train.trainers.fit import fit  # here, because bitsandbytes and others warn when they are imported

    fewest, failed = FEWEST_ROWS.get(job.hyperparameters.method, 1), 0
    while True:
        try:
            return fit(job, tokenizer, emit)
        except OutOfMemory as error:
            rows = error.rows_at_once
            if rows <= fewest or rows == failed:  # no smaller micro-batch divides the batch
                raise
        except Exception as error:
            if memory_is_full(error):
                raise OutOfMemory() from error
            raise
        # Outside the except clause, where the exception no longer references what did not fit.
        _free_memory()
        failed, rows_at_most = rows, max(fewest, rows // 2)
        emit(Stage(describe_smaller_parts(rows, rows_at_most)))
        plan = plan_checkpoints(job.checkpoints.run_folder, job.checkpoints.every, emit)
        job = replace(job, checkpoints=replace(plan, rows_at_most=rows_at_most))


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
