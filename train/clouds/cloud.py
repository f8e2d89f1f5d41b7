"""The protocol of a cloud provider, `Cloud`, and its types. `providers.open_cloud` opens one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Protocol

from models.errors import Invalid, Unavailable
from train.hyperparameters import Hyperparameters

State = Literal["validating", "queued", "running", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warning", "error"]
OVER = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class JobRequest:
    """The request for one job. The provider stores `run` with the job, so that it can be found if the answer is lost.

    `hyperparameters` may have "auto" values; `Cloud.choices` says what the provider makes of them. `multiplier` is
    OpenAI's learning rate multiplier.
    """

    run: str
    base: str
    suffix: str
    method: Literal["sft", "dpo"]
    hyperparameters: Hyperparameters
    training_file: str = ""
    validation_file: str | None = None
    multiplier: float | None = None


@dataclass(frozen=True)
class Choice:
    """The value of one hyperparameter of a job, and the reason for it."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class CloudJob:
    """A fine-tuning job at its provider. `provider_status` is the provider's own name of `state`.

    `model` is the provider's name of the result, once there is one. `run` is the Parley run that created the job, if
    any.
    """

    id: str
    base: str
    state: State
    provider_status: str
    created: datetime
    finished: datetime | None = None
    model: str | None = None
    training_file: str | None = None
    validation_file: str | None = None
    method: Literal["sft", "dpo"] = "sft"
    epochs: int | None = None
    tokens: int | None = None
    error: str | None = None
    run: str | None = None
    suffix: str | None = None

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.state in OVER


@dataclass(frozen=True)
class CloudEvent:
    """An event of a job. Losses are in nats per token; `steps` is the total number of steps."""

    id: str
    created: datetime
    level: Level
    message: str
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    validation_loss: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The provider's own price of a job, in US dollars; `allowed` is False if the account cannot pay it."""

    usd: float
    allowed: bool


class NoAnswer(Unavailable):
    """No answer came: the provider may or may not have done what was requested."""


class Cloud(Protocol):
    """The fine-tuning API of a provider, opened with a key. All methods raise only ParleyErrors."""

    provider: str
    title: str
    credential: str
    longest_suffix: int
    largest_file: int

    @property
    def base_url(self) -> str:
        """The OpenAI-compatible address of its models."""
        ...

    def check(self, request: JobRequest) -> None:
        """Raises Invalid for a request that the provider does not support. It sends nothing."""
        ...

    def choices(self, request: JobRequest, examples: int) -> Sequence[Choice]:
        """The hyperparameters of the job, each "auto" resolved or left to the provider."""
        ...

    def upload(self, path: Path) -> str:
        """Uploads a training file and returns its id. It may be repeated."""
        ...

    def wait_for_file(self, file_id: str) -> None:
        """Returns when the provider has checked a file. Raises Invalid if it refuses the file."""
        ...

    def has_file(self, file_id: str) -> bool:
        """Whether the provider still has a file."""
        ...

    def download(self, file_id: str) -> bytes:
        """The content of a file. Raises NotFound if the provider has deleted it."""
        ...

    def estimate(self, request: JobRequest, examples: int) -> Estimate | None:
        """The provider's own price; None if it gives none."""
        ...

    def create_job(self, request: JobRequest, examples: int) -> CloudJob:
        """Creates the job with a single request, without retries. Raises NoAnswer if no answer came."""
        ...

    def find_job(self, request: JobRequest) -> CloudJob | None:
        """The job that was created for a request; None if there is none."""
        ...

    def job(self, job_id: str) -> CloudJob:
        """One job. Raises NotFound."""
        ...

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first."""
        ...

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """The events of a job that are not in `seen`, oldest first."""
        ...

    def cancel(self, job_id: str) -> CloudJob:
        """Cancels a job. Raises Invalid if it has ended."""
        ...

    def shutdown_date(self, model: str, base: str) -> date | None:
        """The day a model is switched off, from the provider if its API says so, else from the table of shutdowns."""
        ...


def refuse_unsupported(cloud: str, given: Hyperparameters, supported: frozenset[str]) -> None:
    """Raises Invalid for a hyperparameter that was set and that the provider does not support."""
    defaults = Hyperparameters()
    for name in vars(given):
        if name not in supported and getattr(given, name) != getattr(defaults, name):
            raise Invalid(f"{cloud} does not support {name.replace('_', ' ')}: leave it out.", param=name)


def whole_epochs(cloud: str, given: Hyperparameters) -> int | None:
    """The epochs as a whole number; None for "auto". Raises Invalid for a fraction."""
    if given.epochs == "auto":
        return None
    if given.epochs != int(given.epochs):
        raise Invalid(f"{cloud} trains whole epochs only, not {given.epochs}.", param="epochs")
    return int(given.epochs)
