"""A cloud run's folder: what was asked, what was sent, what the provider said. Everything needed to go on is in it.

<runs>/<ulid>/cloud.json         the record: config, fingerprint, the provider's ids, state, result
              <suffix>.jsonl     what is sent, and <suffix>-validation.jsonl where something is held out
              events.jsonl       what the provider told, one line an event
              metrics.jsonl      its steps and validations, as a local run has them
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

from models.atomic import atomic_write
from models.database import new_ulid, utcnow
from models.errors import Busy, Invalid, NotFound
from models.settings import Settings
from train.clouds.cloud import OVER, CloudEvent, CloudJob, Order
from train.hyperparameters import Hyperparameters
from train.run.folder import METRICS, read_json, write_json

RECORD, EVENTS = "cloud.json", "events.jsonl"


@dataclass(frozen=True)
class CloudRun:
    """One run in a cloud, as its record stands. `state` is a job's, or "new" before there is one.

    `fingerprint` is the sha256 of what is sent and asked; a run goes on only with the very same. `sending` is set
    just before the job is asked for: from then on there may be one, whether or not its id is known.
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
        """Whether nothing happens to its job any more."""
        return self.state in OVER

    @property
    def training_path(self) -> Path:
        """The file that is learnt, named so that it is known at the provider."""
        return self.folder / f"{self.suffix}.jsonl"

    @property
    def validation_path(self) -> Path:
        """The file that is held out; not there where nothing is."""
        return self.folder / f"{self.suffix}-validation.jsonl"

    @property
    def order(self) -> Order:
        """What is asked of the provider."""
        return Order(
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
        """What the provider says of the job now, saved."""
        finished = job.finished.isoformat(timespec="seconds") if job.finished else None
        return self.saved(
            job=job.id, state=job.state, model=job.model, tokens=job.tokens, error=job.error, finished=finished
        )

    def with_model(self, registered: str, day: date | None) -> "CloudRun":
        """What it is registered as, saved."""
        return self.saved(registered=registered, shutdown_date=day.isoformat() if day else None)

    def saved(self, **changes: Any) -> "CloudRun":
        """The changed record, on disk when this returns."""
        changed = replace(self, **changes)
        write_json(self.folder / RECORD, changed.as_json())
        return changed

    def as_json(self) -> dict[str, Any]:
        """As cloud.json has it."""
        return asdict(self) | {"folder": str(self.folder)}

    def seen(self) -> list[dict[str, Any]]:
        """The events that were kept, each once, oldest first. A line that a kill cut short is left out."""
        try:
            lines = (self.folder / EVENTS).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        found = [event for line in lines if (event := _event(line)) is not None]
        return list({event["id"]: event for event in found}.values())  # two terminals may have followed at once

    def keep(self, event: CloudEvent) -> None:
        """Appends an event, and its numbers to the metrics."""
        row = asdict(event) | {"created": event.created.isoformat()}
        _append(self.folder / EVENTS, row)
        if event.step is None:
            return
        numbers = {"step": event.step, "steps": event.steps, "loss": event.loss, "accuracy": event.accuracy}
        if event.loss is not None:
            _append(self.folder / METRICS, {name: value for name, value in numbers.items() if value is not None})
        if event.validation_loss is not None:
            _append(self.folder / METRICS, {"step": event.step, "validation_loss": event.validation_loss})


def fingerprint(training: bytes, validation: bytes, asked: dict[str, Any]) -> str:
    """The sha256 of what is sent and of what is asked for."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for part in (training, validation):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def new_run(settings: Settings, training: bytes, validation: bytes, **fields: Any) -> CloudRun:
    """A fresh folder with what will be sent; the record is written last."""
    run = new_ulid()
    made = CloudRun(folder=settings.runs_dir / run, run=run, **fields)
    atomic_write(made.training_path, training)
    if validation:
        atomic_write(made.validation_path, validation)
    return made.saved()


@contextmanager
def alone(settings: Settings, name: str) -> Iterator[None]:
    """Nobody else on this machine orders something called `name` in the block.

    Raises:
        Busy: somebody does.
    """
    folder = settings.runs_dir
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".cloud-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(f"Another process is ordering {name!r} right now: let it finish.") from error
        yield


def cloud_runs(settings: Settings) -> Iterator[CloudRun]:
    """All cloud runs of this home, newest first."""
    for path in sorted(settings.runs_dir.glob(f"*/{RECORD}"), reverse=True):
        yield load_run(path.parent)


def load_run(folder: Path) -> CloudRun:
    """A folder's record.

    Raises:
        Invalid: it is no record, or was written by another Parley.
    """
    try:
        return CloudRun(**read_json(folder / RECORD) | {"folder": folder})
    except TypeError as error:
        raise Invalid(f"{folder / RECORD} is no cloud run's record of this Parley: {error}.", param="run") from error


def find_run(settings: Settings, name: str) -> CloudRun:
    """The newest cloud run that is called so: by the model's name, the run's id, or the provider's id of the job.

    Raises:
        NotFound: there is none.
    """
    for run in cloud_runs(settings):
        if name in (run.name, run.run, run.job):
            return run
    raise NotFound(f"There is no cloud run {name!r} here. `parley cloud list` shows them.", param="run")


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "id" in event else None
