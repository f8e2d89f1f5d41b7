"""The folder of a cloud run: the request, the uploaded files and the events. A run can continue from it.

<runs>/<ulid>/cloud.json         the record: config, fingerprint, the provider's ids, state, result
              <suffix>.jsonl     the training file, and <suffix>-validation.jsonl if something is held out
              events.jsonl       the provider's events, one a line
              metrics.jsonl      steps and validations, as in a local run
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from models.database import new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.files.atomic import atomic_write, lock_file
from models.settings.settings import Settings
from train.clouds.cloud import OVER, CloudEvent, CloudJob, JobRequest
from train.hyperparameters import Hyperparameters
from train.run.folder import METRICS, read_json, write_json

RECORD, EVENTS = "cloud.json", "events.jsonl"


@dataclass(frozen=True)
class CloudRun:
    """The record of a cloud run. `state` is that of the job, or "new" before there is one.

    `fingerprint` is the sha256 of the files and the request: a run continues only with the same. `sending` is set
    before the job is created: from then on there may be a job, even if its id is unknown.
    """

    folder: Path
    run: str
    provider: str
    name: str
    base: str
    suffix: str
    method: Literal["sft", "dpo"]
    hyperparameters: dict[str, Any]
    multiplier: float | None
    fingerprint: str
    examples: int
    held_out: int
    data: str
    usd: float | None = None
    training_file: str | None = None
    validation_file: str | None = None
    sending: bool = False
    job: str | None = None
    state: str = "new"
    model: str | None = None
    registered: str | None = None
    shutdown_date: str | None = None
    tokens: int | None = None
    error: str | None = None
    started: str = field(default_factory=lambda: utcnow().isoformat(timespec="seconds"))
    finished: str | None = None

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in OVER

    @property
    def training_path(self) -> Path:
        """The training file. Its name is also shown at the provider."""
        return self.folder / f"{self.suffix}.jsonl"

    @property
    def validation_path(self) -> Path:
        """The validation file; it does not exist if nothing is held out."""
        return self.folder / f"{self.suffix}-validation.jsonl"

    @property
    def request(self) -> JobRequest:
        """The request for the job."""
        return JobRequest(
            run=self.run,
            base=self.base,
            suffix=self.suffix,
            method=self.method,
            hyperparameters=Hyperparameters.from_dict(self.hyperparameters),
            training_file=self.training_file or "",
            validation_file=self.validation_file,
            multiplier=self.multiplier,
        )

    def with_job(self, job: CloudJob) -> "CloudRun":
        """The record with the current state of the job, saved."""
        finished = job.finished.isoformat(timespec="seconds") if job.finished else None
        return self.saved(
            job=job.id, state=job.state, model=job.model, tokens=job.tokens, error=job.error, finished=finished
        )

    def with_model(self, registered: str, day: date | None) -> "CloudRun":
        """The record with the registered model, saved."""
        return self.saved(registered=registered, shutdown_date=day.isoformat() if day else None)

    def saved(self, **changes: Any) -> "CloudRun":
        """The changed record; it is on disk when this returns."""
        changed = replace(self, **changes)
        write_json(self.folder / RECORD, changed.to_json())
        return changed

    def to_json(self) -> dict[str, Any]:
        """The record as in cloud.json."""
        return asdict(self) | {"folder": str(self.folder)}

    def events(self) -> list[dict[str, Any]]:
        """The stored events, each once, oldest first. An incomplete last line is left out."""
        try:
            lines = (self.folder / EVENTS).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        events = [event for line in lines if (event := _event(line)) is not None]
        # Unique: two terminals may have followed the job at the same time.
        return list({event["id"]: event for event in events}.values())

    def append(self, event: CloudEvent) -> None:
        """Appends an event to the events, and its numbers to the metrics."""
        row = asdict(event) | {"created": event.created.isoformat()}
        _append(self.folder / EVENTS, row)
        if event.step is None:
            return
        numbers = {"step": event.step, "steps": event.steps, "loss": event.loss, "accuracy": event.accuracy}
        if event.loss is not None:
            _append(self.folder / METRICS, {name: value for name, value in numbers.items() if value is not None})
        if event.validation_loss is not None:
            _append(self.folder / METRICS, {"step": event.step, "validation_loss": event.validation_loss})


def fingerprint(training: bytes, validation: bytes, request: dict[str, Any]) -> str:
    """The sha256 of the files and the request."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode())
    for part in (training, validation):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def new_run(settings: Settings, training: bytes, validation: bytes, **fields: Any) -> CloudRun:
    """A new folder with the files to upload; the record is written last."""
    ulid = new_ulid()
    run = CloudRun(folder=settings.runs_dir / ulid, run=ulid, **fields)
    atomic_write(run.training_path, training)
    if validation:
        atomic_write(run.validation_path, validation)
    return run.saved()


def lock_name(settings: Settings, name: str) -> AbstractContextManager[None]:
    """Locks the name of a model for a block. Raises Busy if another process creates a job for it."""
    settings.runs_dir.mkdir(parents=True, exist_ok=True)
    path = settings.runs_dir / f".cloud-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
    return lock_file(path, f"Another process is creating a job for {name!r}. Wait until it has finished.")


def cloud_runs(settings: Settings) -> Iterator[CloudRun]:
    """All cloud runs of this home, newest first."""
    for path in sorted(settings.runs_dir.glob(f"*/{RECORD}"), reverse=True):
        yield load_run(path.parent)


def load_run(folder: Path) -> CloudRun:
    """The record in a folder.

    Raises:
        Invalid: it is not a record of this version of Parley.
    """
    try:
        return CloudRun(**read_json(folder / RECORD) | {"folder": folder})
    except TypeError as error:
        raise Invalid(f"{folder / RECORD} is not a record of this version of Parley: {error}.", param="run") from error


def find_run(settings: Settings, name: str) -> CloudRun:
    """The newest cloud run with this model name, run id or job id.

    Raises:
        NotFound: there is none.
    """
    for run in cloud_runs(settings):
        if name in (run.name, run.run, run.job):
            return run
    raise NotFound(f"There is no cloud run {name!r}. `parley cloud list` lists them.", param="run")


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "id" in event else None
