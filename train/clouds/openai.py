"""OpenAI's fine-tuning through OpenAI's own SDK: files, jobs, events, models. Nothing about runs or the terminal.

A Parley run travels in the job's metadata, by which a job is found again whatever became of the answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import Invalid, NotFound, ParleyError
from models.settings import Settings
from models.shutdowns import find_shutdown_date
from train.clouds.cloud import Choice, CloudEvent, CloudJob, Estimate, Order, refuse_others, whole_epochs
from train.clouds.sdk_errors import told
from train.planning.pricing import openai_epochs

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

RUN_KEY, NAME_KEY = "parley_run", "parley_name"
_TAKES = frozenset({"epochs", "batch_size", "seed", "beta"})
_STATES: Any = {"validating_files": "validating"}
_LEVELS: Any = {"warn": "warning"}
_PAGE = 100
RETRIES = 4  # of the SDK, for all but the asking for a job
# A file over 512 MB is sent in parts of 64 MB. Source: platform.openai.com/docs/api-reference/files and …/uploads.
ONE_PIECE = 500 * 2**20
_LARGEST = 8 * 2**30


class OpenAICloud:
    """OpenAI, or a server that speaks its fine-tuning API: the settings' openai_base_url."""

    provider, title, credential, prefix = "openai", "OpenAI", "OPENAI_API_KEY", "ftjob-"
    longest_suffix, largest_file = 64, _LARGEST

    def __init__(self, settings: Settings, *, one_piece: int = ONE_PIECE, retries: int = RETRIES) -> None:
        import openai

        if settings.openai_api_key is None:
            raise Invalid("OPENAI_API_KEY is not set: OpenAI is asked with it.")
        self._sdk = openai
        self._one_piece = one_piece
        self._client = openai.OpenAI(
            api_key=settings.openai_api_key.get_secret_value(),
            base_url=settings.openai_base_url,
            timeout=60,
            max_retries=retries,
        )

    @property
    def answers_at(self) -> str:
        """The OpenAI-compatible address where its models answer."""
        return str(self._client.base_url).rstrip("/")

    def refuse(self, order: Order) -> None:
        """Raises Invalid for numbers that OpenAI has no place for."""
        given = order.hyperparameters
        if given.learning_rate != "auto":
            raise Invalid(
                "OpenAI takes no learning rate, only a multiplier of its own: use --lr-multiplier.", param="lr"
            )
        refuse_others(self.title, given, _TAKES)
        whole_epochs(self.title, given)

    def choices(self, order: Order, examples: int) -> Sequence[Choice]:
        """Epochs are known beforehand by OpenAI's own rule; the other "auto"s it chooses itself."""
        rule = openai_epochs(examples)
        asked = order.hyperparameters
        values = {"epochs": asked.epochs, "batch size": asked.batch_size, "rate multiplier": order.multiplier or "auto"}
        if order.method == "dpo":
            values["beta"] = asked.beta
        return [
            Choice(name, f"{rule.number:g}", rule.rule)
            if name == "epochs" and value == "auto"
            else Choice(name, str(value), "OpenAI chooses" if value == "auto" else "as asked for")
            for name, value in values.items()
        ]

    def upload(self, path: Path) -> str:
        """Sends a file, in parts where it is too large for one piece."""
        with self._told():
            if path.stat().st_size > self._one_piece:
                sent = self._client.uploads.upload_file_chunked(
                    file=path, mime_type="application/jsonl", purpose="fine-tune"
                )
                if sent.file is None:
                    raise Invalid(f"OpenAI took {path.name} in parts and made no file of it: {sent.status}.")
                return sent.file.id
            with path.open("rb") as file:
                return self._client.files.create(file=file, purpose="fine-tune").id

    def wait_for(self, file_id: str) -> None:
        """OpenAI checks files within the job: nothing to wait for."""

    def has_file(self, file_id: str) -> bool:
        """Whether OpenAI still has a file."""
        try:
            with self._told():
                self._client.files.retrieve(file_id)
        except NotFound:
            return False
        return True

    def content(self, file_id: str) -> bytes:
        """A file's bytes."""
        with self._told():
            return self._client.files.content(file_id).read()

    def estimate(self, order: Order, examples: int) -> Estimate | None:
        """OpenAI tells no price beforehand."""
        return None

    def create(self, order: Order, examples: int) -> CloudJob:
        """Asks for the job, once."""
        kind = "dpo" if order.method == "dpo" else "supervised"
        numbers: dict[str, Any] = {
            "n_epochs": whole_epochs(self.title, order.hyperparameters) or "auto",
            "batch_size": order.hyperparameters.batch_size,
            "learning_rate_multiplier": order.multiplier or "auto",
        }
        if kind == "dpo":
            numbers["beta"] = order.hyperparameters.beta
        method: Any = {"type": kind, kind: {"hyperparameters": numbers}}
        with self._told():
            # The SDK would send it again by itself after a broken connection: a second job.
            once = self._client.with_options(max_retries=0)
            job = once.fine_tuning.jobs.create(
                model=order.base,
                training_file=order.training_file,
                validation_file=order.validation_file,
                suffix=order.suffix,
                seed=order.hyperparameters.seed,
                method=method,
                metadata={RUN_KEY: order.run, NAME_KEY: order.suffix},
            )
        return _job(job)

    def find(self, order: Order) -> CloudJob | None:
        """The newest job with the run in its metadata."""
        with self._told():
            for job in self._client.fine_tuning.jobs.list(metadata={RUN_KEY: order.run}, limit=_PAGE):
                # A server that does not know the filter gives all jobs.
                if (job.metadata or {}).get(RUN_KEY) == order.run:
                    return _job(job)
        return None

    def job(self, job_id: str) -> CloudJob:
        """One job."""
        with self._told():
            return _job(self._client.fine_tuning.jobs.retrieve(job_id))

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first, page after page."""
        with self._told():
            for job in self._client.fine_tuning.jobs.list(limit=_PAGE):
                yield _job(job)

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """What is new. OpenAI lists the newest first, so pages are read only as far back as the first known one."""
        fresh = []
        with self._told():
            for event in self._client.fine_tuning.jobs.list_events(job_id, limit=_PAGE):
                if event.id in seen:
                    break
                fresh.append(_event(event))
        return fresh[::-1]

    def cancel(self, job_id: str) -> CloudJob:
        """Stops a job."""
        with self._told():
            return _job(self._client.fine_tuning.jobs.cancel(job_id))

    def shutdown_date(self, model: str, base: str) -> date | None:
        """The model object's word, else the table's; a model that is gone already has the table's."""
        announced = None
        try:
            with self._told():
                announced = getattr(self._client.models.retrieve(model), "shutdown_date", None)
        except NotFound:
            pass
        except ParleyError:
            return find_shutdown_date(base)
        return find_shutdown_date(base, announced)

    def has_model(self, model: str) -> bool:
        """Whether a model still answers, as far as the list of models tells."""
        try:
            with self._told():
                self._client.models.retrieve(model)
        except NotFound:
            return False
        return True

    def made(self, model: str) -> CloudJob | None:
        """The job that made a model; None where no job of the account did. A checkpoint's job made it too."""
        whole = model.split(":ckpt-step-")[0]
        for job in self.jobs():
            if job.model in (model, whole):
                return replace(job, model=model)
        return None

    def _told(self) -> Any:
        return told(self._sdk, self.title, self.credential)


def _job(job: "FineTuningJob") -> CloudJob:
    error = job.error
    method = "dpo" if job.method and job.method.type == "dpo" else "sft"
    epochs = job.hyperparameters.n_epochs if job.hyperparameters else None
    return CloudJob(
        id=job.id,
        base=job.model,
        state=_STATES.get(job.status, job.status),
        said=job.status,
        created=datetime.fromtimestamp(job.created_at, UTC),
        finished=datetime.fromtimestamp(job.finished_at, UTC) if job.finished_at else None,
        model=job.fine_tuned_model,
        training_file=job.training_file,
        validation_file=job.validation_file,
        method=method,
        epochs=epochs if isinstance(epochs, int) else None,
        tokens=job.trained_tokens,
        error=error.message if error and error.message else None,
        run=(job.metadata or {}).get(RUN_KEY),
        suffix=getattr(job, "user_provided_suffix", None),
    )


def _event(event: "FineTuningJobEvent") -> CloudEvent:
    data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
    return CloudEvent(
        id=event.id,
        created=datetime.fromtimestamp(event.created_at, UTC),
        level=_LEVELS.get(event.level, event.level),
        message=event.message,
        step=data.get("step"),
        steps=data.get("total_steps"),
        loss=data.get("train_loss"),
        accuracy=data.get("train_mean_token_accuracy"),
        validation_loss=data.get("full_valid_loss", data.get("valid_loss")),
    )
