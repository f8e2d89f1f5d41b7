"""The training speed of this machine: measured with a few steps, or estimated from its matrix products.

An estimate counts the operations of a token (Kaplan et al., 2020, arXiv:2001.08361, appendix B: 2 for each weight in
the forward pass, and as many for each of the two backward products) and assumes a share of the speed of plain matrix
products. The last layer counts for learnt tokens only, because no other logits are computed; where the vocabulary is
large, it is most of the work. On a busy or a very small machine an estimate can be wrong by half or more.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from models.errors import ParleyError
from train.data.conversations import Example, Preference
from train.hyperparameters import Hyperparameters, Method
from train.planning.machines import Gpu
from train.planning.needs import Shape, Step, Tune
from train.run.progress import Event
from train.run.progress import Step as StepEvent

if TYPE_CHECKING:
    from models.settings.settings import Settings
    from train.trainers.bases import Base

# The share of the speed of plain matrix products: on a CPU as measured with `bench.real`, on a GPU as in efficient
# training.
_REACHED = {"cpu": 0.65, "cuda": 0.4}
_REACHED_OF_SHEET = 0.3  # of a data sheet's speed, of which plain matrix products reach three quarters
_STEPS = 5  # of a trial; the first one warms up caches and is not counted
_TRIAL_S = 30.0  # a trial ends after this time, with at least two steps
_MATRICES_S = 0.3
_FORWARD, _THROUGH, _INTO_WEIGHTS = 1.0, 1.0, 1.0  # products for each weight: one forward, two backward
_ATTENTION_BACKWARD = 2.0  # of attention itself, which has no weights: twice its forward products
# Forward passes besides that of the training itself: of DPO the base's, of KTO also both models' on mismatched answers.
EXTRA_FORWARDS: Mapping[Method, int] = MappingProxyType({"sft": 0, "dpo": 1, "kto": 3})
_UNPACKED = 1.3  # the time of QLoRA relative to LoRA: weights are unpacked in each pass (arXiv:2305.14314: up to 1.3)


@dataclass(frozen=True)
class Speed:
    """Tokens per second, and how they were determined."""

    tokens_per_s: float
    way: Literal["tried", "estimated"]
    how: str

    def trial_seconds(self, lengths: Sequence[int], batch: int) -> float:
        """The approximate duration of a trial of a few steps, including the validation loss."""
        mean = sum(lengths) / len(lengths)
        return 2 * _STEPS * batch * mean / self.tokens_per_s


@dataclass(frozen=True)
class Trial:
    """How a trial trains."""

    hyperparameters: Hyperparameters
    batch_size: int
    method: Method = "sft"
    threads: int | None = None


class _TrialDone(Exception):
    """Ends a trial."""


@dataclass(frozen=True)
class TokenWork:
    """The quantities that determine the work for a token: the model, the mean length of the rows, the share of learnt
    tokens, whether activations are recomputed, and the number of additional forward passes (`EXTRA_FORWARDS`).
    """

    shape: Shape
    mean_length: float
    learnt: float = 1.0
    checkpointing: bool = False
    extra_forwards: int = 0

    def operations(self, tune: Tune) -> float:
        """Floating-point operations for a trained token."""
        shape, more = self.shape, _FORWARD * self.extra_forwards
        again = more + (_FORWARD if self.checkpointing else 0.0)
        into_weights = _INTO_WEIGHTS if tune == "full" else 0.0
        layers = 2 * shape.linear * (_FORWARD + _THROUGH + into_weights + again)
        # Over half of the row on average, for the scores and for the sum of the values
        attention = 2 * shape.layers * self.mean_length * shape.attention * (_FORWARD + _ATTENTION_BACKWARD + again)
        head = 2 * shape.vocabulary * shape.width * self.learnt * (_FORWARD + _THROUGH + into_weights + more)
        return layers + attention + head


def scale_speed(speed: Speed, work: TokenWork, measured: Tune, wanted: Tune) -> float:
    """Tokens per second of another tuning method, scaled by its share of the work."""

    def cost(tune: Tune) -> float:
        return work.operations(tune) * (_UNPACKED if tune == "qlora" else 1.0)

    return speed.tokens_per_s * cost(measured) / cost(wanted)


def estimate_speed(tune: Tune, work: TokenWork, step: Step, gpu: Gpu | None = None) -> Speed:
    """An estimate from 0.3 s of matrix products on the device, in the precision of the run; with `gpu`, from its data
    sheet.
    """
    operations = work.operations(tune) * (_UNPACKED if tune == "qlora" else 1.0)
    if gpu:
        rate, reached, source = gpu.operations_per_s, _REACHED_OF_SHEET, f"per second in the data sheet of {gpu.name}"
    else:
        rate, reached = matrix_speed(step.device, step.bytes_each), _REACHED[step.device]
        source = "per second of plain matrix products here"
    how = (
        f"estimated from {operations / 1e9:,.3g} billion operations per token, at {reached:.0%} of the "
        f"{rate / 1e9:,.0f} billion {source}"
    )
    return Speed(reached * rate / operations, "estimated", how)


def matrix_speed(device: str, bytes_each: int) -> float:
    """Operations per second of square matrix products, in float32 or bfloat16."""
    import torch

    side = 4096 if device == "cuda" else 1024
    dtype = torch.float32 if bytes_each == 4 else torch.bfloat16
    matrix = torch.randn(side, side, device=device).to(dtype)
    matrix @ matrix  # the first product initialises libraries
    started, products = time.monotonic(), 0
    while time.monotonic() - started < _MATRICES_S:
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        products += 1
    return products * 2 * side**3 / (time.monotonic() - started)


def measure_speed(
    examples: Sequence[Example] | Sequence[Preference],
    base: "Base",
    trial: Trial,
    settings: "Settings | None",
    estimate: Speed,
) -> Speed:
    """Measures a few training steps on examples of the data; the resulting adapter is deleted.

    Returns:
        The measured speed; `estimate`, with the reason, if the trial failed or the base needs its own code.
    """
    from train.training import train

    if base.trust_remote_code:
        return replace(estimate, how=f"{estimate.how}; not measured, because the base runs its own code")
    batch = trial.batch_size
    number = min(len(examples), max(10, _STEPS * batch))
    ordered: list[Any] = sorted(examples, key=_characters)
    # Evenly over the lengths, so that the trial's rows are representative.
    sample = [ordered[place * len(ordered) // number] for place in range(number)]
    steps: list[StepEvent] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StepEvent):
            steps.append(event)
            if len(steps) > 1 and event.seconds > _TRIAL_S:
                raise _TrialDone

    epochs = max(0.01, _STEPS * batch / number)
    try:
        with tempfile.TemporaryDirectory(prefix="parley-trial-") as folder, suppress(_TrialDone):
            train(
                sample,
                base=base.location,
                method=trial.method,
                out=Path(folder) / "run",
                settings=settings,
                hyperparameters=replace(trial.hyperparameters, batch_size=batch, epochs=epochs),
                validation=0.0,
                progress=on_event,
                threads=trial.threads,
                chat_template=base.chat_template,
            )
    except ParleyError as error:
        return replace(estimate, how=f"{estimate.how}; the measurement failed ({str(error).rstrip('.')})")
    first, last = steps[0], steps[-1]
    tokens, seconds = last.tokens - first.tokens, last.seconds - first.seconds
    if tokens <= 0 or seconds <= 0:  # a single step
        tokens, seconds = last.tokens, last.seconds
    return Speed(tokens / seconds, "tried", f"measured with {len(steps)} steps of {batch} examples on this base")


def _characters(item: Example | Preference) -> int:
    messages = (
        (*item.prompt, *item.prompt, *item.chosen, *item.rejected)
        if isinstance(item, Preference)
        else item.conversation.messages
    )
    return sum(len(message.content) for message in messages)
