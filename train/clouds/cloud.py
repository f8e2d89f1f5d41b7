"""What a cloud is to Parley: a few verbs that each provider's file implements, and the nouns that they speak in.

It knows no provider. Whoever works with clouds depends on `Cloud` alone; `open_cloud` finds the one that is meant.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, Protocol

from models.errors import Invalid, Unavailable
from models.settings import Settings
from train.hyperparameters import Hyperparameters

State = Literal["validating", "queued", "running", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warning", "error"]
PROVIDERS = ("openai", "together")
OVER = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Order:
    """One job as it is asked for. `run` finds it again at the provider, whatever became of the answer.

    `hyperparameters` keeps its "auto"s: each provider says in `choices` what it makes of them.
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
    """One number of a job, and why it is that one."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class CloudJob:
    """A fine-tuning job as its provider tells it. `said` is the provider's own word for `state`.

    `model` is what the result is called there, once there is one. `run` is the Parley run that asked for it, where
    it was one.
    """

    id: str
    base: str
    state: State
    said: str
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
        """Whether nothing happens to it any more."""
        return self.state in OVER


@dataclass(frozen=True)
class CloudEvent:
    """Something that a job told. Losses in nats per token; `steps` is how many there will be."""

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
    """The provider's own price of a job, in US dollars; `allowed` is False where the account cannot pay it."""

    usd: float
    allowed: bool


class Lost(Unavailable):
    """No answer came: what was asked may have been done, or not."""


class Cloud(Protocol):
    """A provider's fine-tuning, opened with a key. Every method raises ParleyErrors only."""

    provider: str
    title: str
    credential: str
    longest_suffix: int
    largest_file: int
    prefix: str
    """What its jobs' ids begin with."""

    @property
    def answers_at(self) -> str:
        """The OpenAI-compatible address where its models answer."""
        ...

    def refuse(self, order: Order) -> None:
        """Raises Invalid for what this provider cannot do: before anything is sent."""
        ...

    def choices(self, order: Order, examples: int) -> Sequence[Choice]:
        """What each number of the job will be, every "auto" resolved or left to the provider."""
        ...

    def upload(self, path: Path) -> str:
        """Sends a training file; its id there. Sending the same again is harmless."""
        ...

    def wait_for(self, file_id: str) -> None:
        """Returns once the provider has checked a file. Raises Invalid where it refuses it."""
        ...

    def has_file(self, file_id: str) -> bool:
        """Whether the provider still has a file."""
        ...

    def content(self, file_id: str) -> bytes:
        """A file's bytes. Raises NotFound where the provider has it no more."""
        ...

    def estimate(self, order: Order, examples: int) -> Estimate | None:
        """The provider's own price, where it tells one."""
        ...

    def create(self, order: Order, examples: int) -> CloudJob:
        """Asks for the job, once, with no retry of its own. Raises Lost where no answer came."""
        ...

    def find(self, order: Order) -> CloudJob | None:
        """The job that was created for an order; None where there is none."""
        ...

    def job(self, job_id: str) -> CloudJob:
        """One job. Raises NotFound."""
        ...

    def jobs(self) -> Iterator[CloudJob]:
        """All jobs of the account, newest first."""
        ...

    def events(self, job_id: str, seen: set[str]) -> list[CloudEvent]:
        """What a job told and is not in `seen`, oldest first."""
        ...

    def cancel(self, job_id: str) -> CloudJob:
        """Stops a job. Raises Invalid where it is over."""
        ...

    def shutdown_date(self, model: str, base: str) -> date | None:
        """When a model will be switched off: the provider's word, else the dated table's."""
        ...


def open_cloud(provider: str, settings: Settings) -> Cloud:
    """A provider, ready to be asked.

    Raises:
        Invalid: no such provider, no key in the settings, or its SDK is not installed.
    """
    if provider == "openai":
        from train.clouds.openai import OpenAICloud

        return OpenAICloud(settings)
    if provider == "together":
        from train.clouds.together import TogetherCloud

        return TogetherCloud(settings)
    raise Invalid(f"{provider!r} is no cloud: use {' or '.join(PROVIDERS)}.", param="on")


def provider_of(job_id: str) -> str | None:
    """The provider whose jobs look like this; None where the id tells nothing."""
    if job_id.startswith("ftjob-"):
        return "openai"
    return "together" if job_id.startswith("ft-") else None


def refuse_others(cloud: str, given: Hyperparameters, takes: frozenset[str]) -> None:
    """Raises Invalid for a number that was given and that a provider has no place for: never ignored in silence."""
    usual = Hyperparameters()
    for name in vars(given):
        if name not in takes and getattr(given, name) != getattr(usual, name):
            raise Invalid(f"{cloud} takes no {name.replace('_', ' ')}: leave it out.", param=name)


def whole_epochs(cloud: str, given: Hyperparameters) -> int | None:
    """The epochs as a whole number; None for "auto"."""
    if given.epochs == "auto":
        return None
    if given.epochs != int(given.epochs):
        raise Invalid(f"{cloud} trains whole epochs: {given.epochs} is none.", param="epochs")
    return int(given.epochs)
