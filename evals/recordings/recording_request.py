"""What to record, and what a recording still has to do. `recorder` carries it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.recordings.costs import Estimate, estimate
from evals.recordings.recording_store import answered, stored_recording
from evals.votes.prompts import Prompt
from evals.votes.training_prompts import TRAINING_PARAMETER
from models.database import Database
from models.errors import Invalid
from models.spec import ModelSpec
from models.usage import has_price

CONCURRENCY = 8  # below the limits of hosted models; a local engine takes more
SAMPLES = 3


@dataclass(frozen=True)
class RecordingRequest:
    """What to record.

    Attributes:
        spec: the model, with the prices that costs are computed with.
        prompts: in the order in which they are asked; all first samples come before the second ones.
        parameters: OpenAI's options. `max_tokens` is required; a `seed` is raised by 1 for each sample.
        training: the prompts are training data: no verdict uses their answers.
        max_usd: the limit for the whole recording, earlier runs included.
    """

    spec: ModelSpec
    prompts: Sequence[Prompt]
    parameters: Mapping[str, Any]
    samples: int = SAMPLES
    training: bool = False
    concurrency: int = CONCURRENCY
    max_usd: float | None = None

    def __post_init__(self) -> None:
        if not self.prompts:
            raise Invalid("There are no prompts to record.", param="prompts")
        if self.samples < 1 or self.concurrency < 1 or self.parameters.get("max_tokens", 0) < 1:
            raise Invalid("Samples, concurrency and max-tokens must be 1 or more.", param="samples")
        if self.max_usd is not None and not has_price(self.spec):
            raise Invalid(
                f"A cost limit needs the prices of {self.spec.id}: give --usd-per-million-input and "
                "--usd-per-million-output.",
                param="max_cost",
            )

    @property
    def stored_parameters(self) -> dict[str, Any]:
        """The parameters as they are stored, which identify the recording."""
        return dict(self.parameters) | ({TRAINING_PARAMETER: True} if self.training else {})


@dataclass(frozen=True)
class RecordingPlan:
    """What a recording still has to do. `stored` samples have answers; `left` is the cost of the others."""

    stored: int
    left: Estimate


def plan_recording(database: Database, request: RecordingRequest) -> RecordingPlan:
    """What is stored already, and the maximum cost of the rest. Sends and stores nothing."""
    known = stored_recording(database, request.spec.id, request.prompts, request.samples, request.stored_parameters)
    done = answered(database, known)
    messages = [prompt.messages for prompt, _ in missing_samples(request, done.keys)]
    left = estimate(request.spec, messages, request.parameters["max_tokens"])
    return RecordingPlan(len(done.keys), left)


def missing_samples(request: RecordingRequest, done: frozenset[tuple[str, int]]) -> list[tuple[Prompt, int]]:
    """What to ask. First samples come first, so that a recording that stops early covers most prompts."""
    return [
        (prompt, sample)
        for sample in range(request.samples)
        for prompt in request.prompts
        if (prompt.id, sample) not in done
    ]
