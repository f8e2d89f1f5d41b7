"""Jobs that import, merge and export models, as the commands do. Each runs in a child process, which loads torch."""

from typing import Any

from models.errors import Invalid
from models.jobs.jobs import Job
from models.jobs.worker import JobContext
from train.worker.jobs import ProgressReporter, run_child

IMPORT, MERGE, EXPORT = "import-model", "merge-model", "export-model"


def run_model_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Runs one job of these kinds.

    Its parameters: for an import, the fields of `NewModel` and `merge`; for a merge, `adapter` and `name`; for an
    export, `model`, `type` and `file`, the name of a file in the home's folder `exports`.

    Returns:
        `{"model": name}`; for an export also `file` and `bytes`.

    Raises:
        JobProcessFailed: the job's error in one line. JobCancelled: the job was cancelled. Nothing is left of it but a
            candidate, if it was cancelled during the last check.
    """
    if job.kind not in (IMPORT, MERGE, EXPORT):
        raise Invalid(f"There is no job of kind {job.kind!r}.")
    values = {"kind": job.kind, "params": job.params, "started": (job.started or job.created).isoformat()}
    advice = "unload a model or stop other programs, and start the job again"
    return run_child("train.worker.model_child", values, context, ProgressReporter(context), advice)
