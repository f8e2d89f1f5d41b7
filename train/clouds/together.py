"""Together AI's fine-tuning through Together's own SDK, an optional dependency.

Its jobs have no metadata, so the id of the Parley run is in the suffix; by it a job is found if the answer is lost.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from models.errors import Invalid, Unavailable
from models.registry.shutdowns import find_shutdown_date
from models.settings.settings import Settings
from train.clouds.cloud import Choice, CloudEvent, CloudJob, Estimate, JobRequest, refuse_unsupported, whole_epochs
from train.clouds.sdk import SDKCloud
from train.hyperparameters import Facts, Resolved, resolve

# --no-deps: it requires an older rich than Parley, and works with ours.
INSTALL = "pip install --no-deps together==3.1.1 detect-agent==0.6.0 distro==1.9.0"
_SUPPORTED = frozenset(
    {
        "epochs", "batch_size", "learning_rate", "rank", "alpha", "dropout", "max_length", "schedule", "warmup",
        "weight_decay", "max_grad_norm", "seed", "tune", "beta",
    }
)  # fmt: skip
_WIDTH, _CONTEXT = 4096, 131_072  # of 8B models, which Together tunes most: the rules for "auto" use these
_RUN_LETTERS = 8
_CHECK_S, _CHECK_MOST_S = 2.0, 900.0
RETRIES = 4  # by the SDK, for all requests but uploads and the creation of a job
_LARGEST = 50 * 2**30
_STATES: Any = {
    "pending": "validating", "queued": "queued", "running": "running", "compressing": "running",
    "uploading": "running", "cancel_requested": "running", "cancelled": "cancelled", "error": "failed",
    "user_error": "failed", "completed": "succeeded",
}  # fmt: skip


class TogetherCloud(SDKCloud):
    """Together AI at the setting together_base_url."""

    provider, title, credential = "together", "Together AI", "TOGETHER_API_KEY"
    longest_suffix, largest_file = 40 - _RUN_LETTERS - 1, _LARGEST

    def __init__(self, settings: Settings, *, check_s: float = _CHECK_S, retries: int = RETRIES) -> None:
        try:
            import together
        except ImportError as error:
            raise Invalid(f"Together's SDK is not installed. Install it with: {INSTALL}", param="on") from error
        if settings.together_api_key is None:
            raise Invalid("TOGETHER_API_KEY is not set. Set it to your Together AI key.")
        self._check_s = check_s
        self._base_url = settings.together_base_url.rstrip("/").removesuffix("/v1")
        key = settings.together_api_key.get_secret_value()
        client = together.Together(api_key=key, base_url=self._base_url, timeout=60, max_retries=retries)
        super().__init__(together, client)

    @property
    def base_url(self) -> str:
        """The OpenAI-compatible address of its models."""
        return f"{self._base_url}/v1"

    def check(self, request: JobRequest) -> None:
        """Raises Invalid for hyperparameters that Together does not support."""
        given = request.hyperparameters
        refuse_unsupported(self.title, given, _SUPPORTED)
        whole_epochs(self.title, given)
        if request.multiplier is not None:
            raise Invalid("Together AI does not support a learning rate multiplier: use --lr.", param="lr-multiplier")
        if given.schedule == "constant":
            raise Invalid("Together AI supports the schedules cosine and linear.", param="schedule")
        if given.tune == "qlora":
            raise Invalid("Together AI supports --tune lora or full.", param="tune")

    def choices(self, request: JobRequest, examples: int) -> Sequence[Choice]:
        """The hyperparameters that are sent; Together uses its defaults for the others."""
        given, resolved = request.hyperparameters, _resolved(request, examples)
        shown = [
            Choice(
                name.replace("_", " "), f"{getattr(resolved.values, name):g}", resolved.reasons.get(name, "as given")
            )
            for name in ("epochs", "learning_rate")
        ]
        for name in ("rank", "batch_size"):
            value = getattr(given, name)
            reason = "Together chooses" if value == "auto" else "as given"
            shown.append(Choice(name.replace("_", " "), str(value), reason))
        return shown

    def upload(self, path: Path) -> str:
        """Uploads a file. The same content gives the same file."""
        with self._errors():
            # No retries: for a file that exists Together answers 409, which the SDK would retry for a long time.
            return self._client.with_options(max_retries=0).files.upload(path, purpose="fine-tune", check=True).id

    def wait_for_file(self, file_id: str) -> None:
        """Waits until Together has checked a file; it gives a price only after that."""
        until = time.monotonic() + _CHECK_MOST_S
        while time.monotonic() < until:
            with self._errors():
                file = self._client.files.retrieve(file_id)
            if file.processing_status in ("INVALID_FORMAT", "FAILED"):
                why = file.validation_report.error if file.validation_report else None
                raise Invalid(f"Together AI refuses the file: {why or 'its check failed'}.", param="data")
            if file.processing_status in (None, "COMPLETED"):
                return
            time.sleep(self._check_s)
        raise Unavailable(f"Together AI has not checked {file_id} within 15 minutes. Run the same command again later.")

    def estimate(self, request: JobRequest, examples: int) -> Estimate | None:
        """Together's own price; None if it has none yet."""
        method: Any = {"method": "dpo"} if request.method == "dpo" else {"method": "sft", "train_on_inputs": False}
        with self._errors():
            price = self._client.fine_tuning.estimate_price(
                training_file=request.training_file,
                model=request.base,
                n_epochs=self._fields(request, examples)["n_epochs"],
                training_method=method,
            )
        if price.estimation_available is False or price.estimated_total_price is None:
            return None
        return Estimate(price.estimated_total_price, price.allowed_to_proceed is not False)

    def create_job(self, request: JobRequest, examples: int) -> CloudJob:
        """Creates the job with a single request. The SDK first fetches the limits of the model and the price."""
        method: dict[str, Any] = {"training_method": "sft", "train_on_inputs": False}
        if request.method == "dpo":
            beta = request.hyperparameters.beta
            method = {"training_method": "dpo", "dpo_beta": None if beta == "auto" else beta}
        with self._errors():
            try:
                # No retries: after a broken connection the SDK would send the request again and create a second job.
                job = self._client.with_options(max_retries=0).fine_tuning.create(
                    model=request.base,
                    training_file=request.training_file,
                    validation_file=request.validation_file or "",
                    n_evals=5 if request.validation_file else 0,
                    suffix=_suffix(request),
                    random_seed=request.hyperparameters.seed,
                    **self._fields(request, examples),
                    **method,
                )
            except ValueError as error:  # the SDK checks the limits of the model
                raise Invalid(f"Together AI: {error}") from error
        return _job(job)

    def find_job(self, request: JobRequest) -> CloudJob | None:
        """The job with the suffix of this request."""
        return next((job for job in self.jobs() if job.suffix == _suffix(request)), None)

    def job(self, job_id: str) -> CloudJob:
        """One job."""
        with self._errors():
            return _job(self._client.fine_tuning.retrieve(job_id))

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first."""
        with self._errors():
            jobs = [_job(job) for job in self._client.fine_tuning.list().data]
        yield from sorted(jobs, key=lambda job: job.created, reverse=True)

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """The new events. Together lists all events, oldest first, without ids: their position is the id."""
        with self._errors():
            rows = self._client.fine_tuning.list_events(job_id).data
        numbered = [_event(job_id, number, event) for number, event in enumerate(rows)]
        return [event for event in numbered if event.id not in seen]

    def cancel(self, job_id: str) -> CloudJob:
        """Cancels a job."""
        with self._errors():
            return _job(self._client.fine_tuning.cancel(job_id))

    def shutdown_date(self, model: str, base: str) -> date | None:
        """The date in the table of shutdowns: Together's API has none."""
        return find_shutdown_date(base)

    def _fields(self, request: JobRequest, examples: int) -> dict[str, Any]:
        """The hyperparameters under Together's names. Together uses its defaults for the others."""
        given, values = request.hyperparameters, _resolved(request, examples).values
        fields: dict[str, Any] = {
            "n_epochs": int(values.epochs),
            "learning_rate": values.learning_rate,
            "batch_size": "max" if given.batch_size == "auto" else given.batch_size,
            "lr_scheduler_type": given.schedule,
            "warmup_ratio": given.warmup,
            "weight_decay": given.weight_decay,
            "max_grad_norm": given.max_grad_norm,
            "lora": given.tune != "full",
        }
        optional = {"lora_r": given.rank, "lora_alpha": given.alpha, "max_seq_length": given.max_length}
        fields |= {name: value for name, value in optional.items() if value != "auto"}
        if given.tune != "full":
            fields["lora_dropout"] = given.dropout
        return fields


def _resolved(request: JobRequest, examples: int) -> Resolved:
    """The values of "auto" by our own rules: Together's defaults are one epoch and a learning rate for full tuning."""
    return resolve(request.hyperparameters, Facts(examples, _WIDTH, _CONTEXT), request.method)


def _suffix(request: JobRequest) -> str:
    """The suffix of the request with the end of its run id, by which the job is found."""
    return f"{request.suffix}-{request.run[-_RUN_LETTERS:].lower()}"


def _job(job: Any) -> CloudJob:
    status = getattr(job.status, "value", job.status)
    created = job.created_at or datetime.now(UTC)
    state = _STATES.get(status, "running")
    events = [event for event in job.events or [] if not isinstance(event, str)]
    failed = next((event.message for event in reversed(events) if "error" in str(event.level).lower()), None)
    method = getattr(job.training_method, "method", "sft")
    return CloudJob(
        id=job.id,
        base=job.model or "",
        state=state,
        provider_status=str(status),
        created=created if created.tzinfo else created.replace(tzinfo=UTC),
        finished=job.updated_at if state in ("succeeded", "failed", "cancelled") else None,
        model=(getattr(job, "x_model_output_name", None) or getattr(job, "output_name", None))
        if state == "succeeded"
        else None,
        training_file=job.training_file,
        validation_file=job.validation_file or None,
        method="dpo" if method == "dpo" else "sft",
        epochs=job.n_epochs,
        tokens=job.token_count,
        error=(failed or "no reason was given") if state == "failed" else None,
        suffix=getattr(job, "suffix", None),
    )


def _event(job_id: str, number: int, event: Any) -> CloudEvent:
    level = str(getattr(event.level, "value", event.level) or "info").lower()
    kind = "error" if "error" in level else "warning" if "warn" in level else "info"
    return CloudEvent(
        id=f"{job_id}-{number}",
        created=datetime.fromisoformat(event.created_at.replace("Z", "+00:00")),
        level=kind,
        message=event.message,
        step=event.step,
        steps=event.total_steps,
    )
