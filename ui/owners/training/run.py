"""A training run: its job, and the loss curves that the run's folder holds so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.jobs.jobs import Job
from models.settings.settings import Settings
from train.run.curves import Curves, read_curves
from train.run.folder import METRICS
from ui.look.markup import STATUS_LABELS

KINDS = ("train", "fine-tune")


@dataclass(frozen=True)
class Run:
    """A training's job and its loss curves."""

    job: Job
    curves: Curves

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.job.over

    @property
    def plot_version(self) -> tuple[str, int, int]:
        """Changes whenever the run's plot changes."""
        return self.job.id, len(self.curves.train), len(self.curves.validation)


def read_run(settings: Settings, job: Job) -> Run:
    """The run as it is on disk. Its folder has the name of the job, or of the fine-tuning job."""
    names = [job.id, *[value for value in [job.params.get("fine_tuning_job")] if isinstance(value, str)]]
    folders = [settings.runs_dir / name for name in names if Path(name).name == name]
    folder = next((folder for folder in folders if (folder / METRICS).exists()), None)
    return Run(job, read_curves(folder / METRICS) if folder else Curves())


def run_options(jobs: Sequence[Job]) -> list[tuple[str, str]]:
    """Dropdown options (label, job id): when, which model from which base, and the status."""
    return [(_label(job), job.id) for job in jobs]


def _label(job: Job) -> str:
    params = job.params
    name = params.get("name") or params.get("fine_tuning_job") or job.id
    from_base = f" from {params['base']}" if params.get("base") else ""
    return f"{job.created:%Y-%m-%d %H:%M} · {name}{from_base} · {STATUS_LABELS.get(job.status, job.status)}"
