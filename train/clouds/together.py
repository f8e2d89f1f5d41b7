"""Together AI's fine-tuning through Together's own SDK, which is installed only by those who want it.

A job there carries no metadata: a Parley run travels in the suffix, by which a job is found again.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from models.errors import Invalid, NotFound, Unavailable
from models.settings import Settings
from models.shutdowns import find_shutdown_date
from train.clouds.cloud import Choice, CloudEvent, CloudJob, Estimate, Order, refuse_others, whole_epochs
from train.clouds.sdk_errors import told
from train.hyperparameters import Facts, Resolved, resolve

# --no-deps: it asks for an older rich than Parley has, and works with ours.
INSTALL = "pip install --no-deps together==3.1.1 detect-agent==0.6.0 distro==1.9.0"
_TAKES = frozenset(
    {
        "epochs", "batch_size", "learning_rate", "rank", "alpha", "dropout", "max_length", "schedule", "warmup",
        "weight_decay", "max_grad_norm", "seed", "tune", "beta",
    }
)  # fmt: skip
_WIDTH, _CONTEXT = 4096, 131_072  # of the 8-billion models that Together tunes most: the rules of "auto" look at these
_RUN_LETTERS = 8
_CHECK_S, _CHECK_MOST_S = 2.0, 900.0
RETRIES = 4  # of the SDK, for all but uploads and the asking for a job
_LARGEST = 50 * 2**30
_STATES: Any = {
    "pending": "validating", "queued": "queued", "running": "running", "compressing": "running",
    "uploading": "running", "cancel_requested": "running", "cancelled": "cancelled", "error": "failed",
    "user_error": "failed", "completed": "succeeded",
}  # fmt: skip


class TogetherCloud:
    """Together AI at the settings' together_base_url."""

    provider, title, credential, prefix = "together", "Together AI", "TOGETHER_API_KEY", "ft-"
    longest_suffix, largest_file = 40 - _RUN_LETTERS - 1, _LARGEST

    def __init__(self, settings: Settings, *, check_s: float = _CHECK_S, retries: int = RETRIES) -> None:
        try:
            import together
        except ImportError as error:
            raise Invalid(f"Together's SDK is not installed: {INSTALL}", param="on") from error
        if settings.together_api_key is None:
            raise Invalid("TOGETHER_API_KEY is not set: Together AI is asked with it.")
        self._sdk = together
        self._check_s = check_s
        self._base_url = settings.together_base_url.rstrip("/").removesuffix("/v1")
        self._client = together.Together(
            api_key=settings.together_api_key.get_secret_value(),
            base_url=self._base_url,
            timeout=60,
            max_retries=retries,
        )

    @property
    def answers_at(self) -> str:
        """The OpenAI-compatible address where its models answer."""
        return f"{self._base_url}/v1"

    def refuse(self, order: Order) -> None:
        """Raises Invalid for numbers that Together has no place for."""
        given = order.hyperparameters
        refuse_others(self.title, given, _TAKES)
        whole_epochs(self.title, given)
        if order.multiplier is not None:
            raise Invalid("Together AI takes a learning rate, no multiplier: use --lr.", param="lr-multiplier")
        if given.schedule == "constant":
            raise Invalid("Together AI knows the schedules cosine and linear.", param="schedule")
        if given.tune == "qlora":
            raise Invalid("Together AI trains lora or full: 4 bits are for one's own machine.", param="tune")

    def choices(self, order: Order, examples: int) -> Sequence[Choice]:
        """What is sent for each number; what is left out is Together's default for the model."""
        asked, found = order.hyperparameters, _resolved(order, examples)
        shown = [
            Choice(name.replace("_", " "), f"{getattr(found.values, name):g}", found.reasons.get(name, "as asked for"))
            for name in ("epochs", "learning_rate")
        ]
        for name in ("rank", "batch_size"):
            value = getattr(asked, name)
            reason = "Together chooses" if value == "auto" else "as asked for"
            shown.append(Choice(name.replace("_", " "), str(value), reason))
        return shown

    def upload(self, path: Path) -> str:
        """Sends a file; the same content again is the same file there."""
        with self._told():
            # A file that is there already is a 409, which the SDK would repeat for long before it looks.
            return self._client.with_options(max_retries=0).files.upload(path, purpose="fine-tune", check=True).id

    def wait_for(self, file_id: str) -> None:
        """Together checks a file after it came, and prices it only then."""
        until = time.monotonic() + _CHECK_MOST_S
        while time.monotonic() < until:
            with self._told():
                file = self._client.files.retrieve(file_id)
            if file.processing_status in ("INVALID_FORMAT", "FAILED"):
                why = file.validation_report.error if file.validation_report else None
                raise Invalid(f"Together AI refuses the file: {why or 'its check failed'}.", param="data")
            if file.processing_status in (None, "COMPLETED"):
                return
            time.sleep(self._check_s)
        raise Unavailable(f"Together AI has not checked {file_id} within 15 minutes. Run the same command again later.")

    def has_file(self, file_id: str) -> bool:
        """Whether Together still has a file."""
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
        """Together's own price; None where it has none yet."""
        method: Any = {"method": "dpo"} if order.method == "dpo" else {"method": "sft", "train_on_inputs": False}
        with self._told():
            found = self._client.fine_tuning.estimate_price(
                training_file=order.training_file,
                model=order.base,
                n_epochs=self._numbers(order, examples)["n_epochs"],
                training_method=method,
            )
        if found.estimation_available is False or found.estimated_total_price is None:
            return None
        return Estimate(found.estimated_total_price, found.allowed_to_proceed is not False)

    def create(self, order: Order, examples: int) -> CloudJob:
        """Asks for the job, once. The SDK asks for the model's limits and the price on the way."""
        method: dict[str, Any] = {"training_method": "sft", "train_on_inputs": False}
        if order.method == "dpo":
            beta = order.hyperparameters.beta
            method = {"training_method": "dpo", "dpo_beta": None if beta == "auto" else beta}
        with self._told():
            try:
                # The SDK would send it again by itself after a broken connection: a second job.
                job = self._client.with_options(max_retries=0).fine_tuning.create(
                    model=order.base,
                    training_file=order.training_file,
                    validation_file=order.validation_file or "",
                    n_evals=5 if order.validation_file else 0,
                    suffix=_suffix(order),
                    random_seed=order.hyperparameters.seed,
                    **self._numbers(order, examples),
                    **method,
                )
            except ValueError as error:  # the SDK's own checks against the model's limits
                raise Invalid(f"Together AI: {error}") from error
        return _job(job)

    def find(self, order: Order) -> CloudJob | None:
        """The job with this order's suffix."""
        return next((job for job in self.jobs() if job.suffix == _suffix(order)), None)

    def job(self, job_id: str) -> CloudJob:
        """One job."""
        with self._told():
            return _job(self._client.fine_tuning.retrieve(job_id))

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first."""
        with self._told():
            found = [_job(job) for job in self._client.fine_tuning.list().data]
        yield from sorted(found, key=lambda job: job.created, reverse=True)

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """What is new. Together lists all events, the oldest first, and gives them no ids: their place is one."""
        with self._told():
            found = self._client.fine_tuning.list_events(job_id).data
        numbered = [_event(job_id, number, event) for number, event in enumerate(found)]
        return [event for event in numbered if event.id not in seen]

    def cancel(self, job_id: str) -> CloudJob:
        """Stops a job."""
        with self._told():
            return _job(self._client.fine_tuning.cancel(job_id))

    def shutdown_date(self, model: str, base: str) -> date | None:
        """Together announces none in its API: the table's word."""
        return find_shutdown_date(base)

    def _numbers(self, order: Order, examples: int) -> dict[str, Any]:
        """The job's numbers in Together's words; what is not here is Together's default."""
        asked, values = order.hyperparameters, _resolved(order, examples).values
        numbers: dict[str, Any] = {
            "n_epochs": int(values.epochs),
            "learning_rate": values.learning_rate,
            "batch_size": "max" if asked.batch_size == "auto" else asked.batch_size,
            "lr_scheduler_type": asked.schedule,
            "warmup_ratio": asked.warmup,
            "weight_decay": asked.weight_decay,
            "max_grad_norm": asked.max_grad_norm,
            "lora": asked.tune != "full",
        }
        named = {"lora_r": asked.rank, "lora_alpha": asked.alpha, "max_seq_length": asked.max_length}
        numbers |= {name: value for name, value in named.items() if value != "auto"}
        if asked.tune != "full":
            numbers["lora_dropout"] = asked.dropout
        return numbers

    def _told(self) -> Any:
        return told(self._sdk, self.title, self.credential)


def _resolved(order: Order, examples: int) -> Resolved:
    """Our own rules for the numbers that Together would otherwise leave at one epoch and a rate of full tuning."""
    return resolve(order.hyperparameters, Facts(examples, _WIDTH, _CONTEXT), order.method)


def _suffix(order: Order) -> str:
    """The order's suffix with the end of its run, by which the job is known."""
    return f"{order.suffix}-{order.run[-_RUN_LETTERS:].lower()}"


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
        said=str(status),
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
