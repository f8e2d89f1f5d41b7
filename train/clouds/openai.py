"""OpenAI's fine-tuning through OpenAI's own SDK: files, jobs, events, models.

The id of the Parley run is in the metadata of a job, so that the job can be found if the answer is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import Invalid, NotFound, ParleyError
from models.registry.shutdowns import find_shutdown_date
from models.settings.settings import Settings
from train.clouds.cloud import Choice, CloudEvent, CloudJob, Estimate, JobRequest, refuse_unsupported, whole_epochs
from train.clouds.sdk import SDKCloud
from train.planning.pricing import openai_epochs

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

RUN_KEY, NAME_KEY = "parley_run", "parley_name"
_SUPPORTED = frozenset({"epochs", "batch_size", "seed", "beta"})
_STATES: Any = {"validating_files": "validating"}
_LEVELS: Any = {"warn": "warning"}
_PAGE = 100
RETRIES = 4  # by the SDK, for all requests but the creation of a job
# A file over 512 MB is uploaded in parts of 64 MB. Source: platform.openai.com/docs/api-reference/files and …/uploads.
ONE_PIECE = 500 * 2**20
_LARGEST = 8 * 2**30


class OpenAICloud(SDKCloud):
    """OpenAI, or another server with its fine-tuning API: the setting openai_base_url."""

    provider, title, credential = "openai", "OpenAI", "OPENAI_API_KEY"
    longest_suffix, largest_file = 64, _LARGEST

    def __init__(self, settings: Settings, *, one_piece: int = ONE_PIECE, retries: int = RETRIES) -> None:
        import openai

        if settings.openai_api_key is None:
            raise Invalid("OPENAI_API_KEY is not set. Set it to your OpenAI key.")
        key = settings.openai_api_key.get_secret_value()
        client = openai.OpenAI(api_key=key, base_url=settings.openai_base_url, timeout=60, max_retries=retries)
        super().__init__(openai, client)
        self._one_piece = one_piece

    @property
    def base_url(self) -> str:
        """The OpenAI-compatible address of its models."""
        return str(self._client.base_url).rstrip("/")

    def check(self, request: JobRequest) -> None:
        """Raises Invalid for hyperparameters that OpenAI does not support."""
        given = request.hyperparameters
        if given.learning_rate != "auto":
            raise Invalid(
                "OpenAI does not accept a learning rate, only a multiplier: use --lr-multiplier.",
                param="lr",
            )
        refuse_unsupported(self.title, given, _SUPPORTED)
        whole_epochs(self.title, given)

    def choices(self, request: JobRequest, examples: int) -> Sequence[Choice]:
        """Automatic epochs follow OpenAI's published rule; OpenAI chooses the other "auto" values itself."""
        rule = openai_epochs(examples)
        given = request.hyperparameters
        values = {
            "epochs": given.epochs,
            "batch size": given.batch_size,
            "rate multiplier": request.multiplier or "auto",
        }
        if request.method == "dpo":
            values["beta"] = given.beta
        return [
            Choice(name, f"{rule.number:g}", rule.rule)
            if name == "epochs" and value == "auto"
            else Choice(name, str(value), "OpenAI chooses" if value == "auto" else "as given")
            for name, value in values.items()
        ]

    def upload(self, path: Path) -> str:
        """Uploads a file, in parts if it is too large for one request."""
        with self._errors():
            if path.stat().st_size > self._one_piece:
                sent = self._client.uploads.upload_file_chunked(
                    file=path, mime_type="application/jsonl", purpose="fine-tune"
                )
                if sent.file is None:
                    raise Invalid(f"OpenAI received {path.name} in parts but made no file of it ({sent.status}).")
                return sent.file.id
            with path.open("rb") as file:
                return self._client.files.create(file=file, purpose="fine-tune").id

    def wait_for_file(self, file_id: str) -> None:
        """Returns at once: OpenAI checks files as part of the job."""

    def estimate(self, request: JobRequest, examples: int) -> Estimate | None:
        """None: OpenAI gives no price in advance."""
        return None

    def create_job(self, request: JobRequest, examples: int) -> CloudJob:
        """Creates the job with a single request."""
        kind = "dpo" if request.method == "dpo" else "supervised"
        numbers: dict[str, Any] = {
            "n_epochs": whole_epochs(self.title, request.hyperparameters) or "auto",
            "batch_size": request.hyperparameters.batch_size,
            "learning_rate_multiplier": request.multiplier or "auto",
        }
        if kind == "dpo":
            numbers["beta"] = request.hyperparameters.beta
        method: Any = {"type": kind, kind: {"hyperparameters": numbers}}
        with self._errors():
            # No retries: after a broken connection the SDK would send the request again and create a second job.
            once = self._client.with_options(max_retries=0)
            job = once.fine_tuning.jobs.create(
                model=request.base,
                training_file=request.training_file,
                validation_file=request.validation_file,
                suffix=request.suffix,
                seed=request.hyperparameters.seed,
                method=method,
                metadata={RUN_KEY: request.run, NAME_KEY: request.suffix},
            )
        return _job(job)

    def find_job(self, request: JobRequest) -> CloudJob | None:
        """The newest job with the run in its metadata."""
        with self._errors():
            for job in self._client.fine_tuning.jobs.list(metadata={RUN_KEY: request.run}, limit=_PAGE):
                # A server that does not support the filter returns all jobs.
                if (job.metadata or {}).get(RUN_KEY) == request.run:
                    return _job(job)
        return None

    def job(self, job_id: str) -> CloudJob:
        """One job."""
        with self._errors():
            return _job(self._client.fine_tuning.jobs.retrieve(job_id))

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first, page after page."""
        with self._errors():
            for job in self._client.fine_tuning.jobs.list(limit=_PAGE):
                yield _job(job)

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """The new events. OpenAI lists the newest first, so reading stops at the first known one."""
        fresh = []
        with self._errors():
            for event in self._client.fine_tuning.jobs.list_events(job_id, limit=_PAGE):
                if event.id in seen:
                    break
                fresh.append(_event(event))
        return fresh[::-1]

    def cancel(self, job_id: str) -> CloudJob:
        """Cancels a job."""
        with self._errors():
            return _job(self._client.fine_tuning.jobs.cancel(job_id))

    def shutdown_date(self, model: str, base: str) -> date | None:
        """The date in the model object, else the date in the table of shutdowns."""
        announced = None
        try:
            with self._errors():
                announced = getattr(self._client.models.retrieve(model), "shutdown_date", None)
        except NotFound:
            pass
        except ParleyError:
            return find_shutdown_date(base)
        return find_shutdown_date(base, announced)

    def has_model(self, model: str) -> bool:
        """Whether OpenAI still lists a model."""
        return self._exists(self._client.models, model)

    def job_of_model(self, model: str) -> CloudJob | None:
        """The job that made a model or one of its checkpoints; None if no job of the account did."""
        whole = model.split(":ckpt-step-")[0]
        for job in self.jobs():
            if job.model in (model, whole):
                return replace(job, model=model)
        return None


def _job(job: "FineTuningJob") -> CloudJob:
    error = job.error
    method = "dpo" if job.method and job.method.type == "dpo" else "sft"
    epochs = job.hyperparameters.n_epochs if job.hyperparameters else None
    return CloudJob(
        id=job.id,
        base=job.model,
        state=_STATES.get(job.status, job.status),
        provider_status=job.status,
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
