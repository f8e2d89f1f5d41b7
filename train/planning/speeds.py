"""How fast this machine trains: tried out with training's own code, or estimated from its matrix products.

An estimate counts the operations of a token (Kaplan et al., 2020, arXiv:2001.08361, appendix B: 2 for each weight going
forward, and as many again for each of the two backward products) and takes 40 % of the speed of plain matrix products,
which is what well-run training reaches; on a busy or a very small machine it can be off by half or more.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.errors import ParleyError
from train.data.conversations import Example
from train.hyperparameters import Hyperparameters
from train.planning.needs import Shape, Step, Tune
from train.run.progress import Event
from train.run.progress import Step as Told

if TYPE_CHECKING:
    from models.settings import Settings
    from train.trainers.bases import Base

_REACHED = 0.4  # of the speed of plain matrix products
_STEPS = 5  # of a trial; the first, which warms caches up, is not counted
_TRIAL_S = 30.0  # after which a trial ends with the steps that it has, two at least
_MATRICES_S = 0.3
_FORWARD, _THROUGH, _INTO_WEIGHTS = 1.0, 1.0, 1.0  # products for each weight: one forward, two backward
_UNPACKED = 1.3  # QLoRA's time over LoRA's: weights are unpacked from 4 bits in each pass (arXiv:2305.14314: up to 1.3)


@dataclass(frozen=True)
class Speed:
    """Tokens a second, and how they were found."""

    tokens_per_s: float
    way: Literal["tried", "estimated"]
    how: str

    def trial_seconds(self, lengths: Sequence[int], batch: int) -> float:
        """About how long a trial of a few steps would take, its measuring of the loss included."""
        mean = sum(lengths) / len(lengths)
        return 2 * _STEPS * batch * mean / self.tokens_per_s


class _Enough(Exception):
    """Ends a trial that has told enough."""


def work(tune: Tune, checkpointing: bool) -> float:
    """Matrix products for each weight and token, one forward pass being 1."""
    passes = _FORWARD + _THROUGH + (_INTO_WEIGHTS if tune == "full" else 0.0) + (_FORWARD if checkpointing else 0.0)
    return passes * (_UNPACKED if tune == "qlora" else 1.0)


def scale_speed(speed: Speed, found_for: Tune, wanted: Tune, checkpointing: bool) -> float:
    """Tokens a second of another way of tuning, by its share of the work."""
    return speed.tokens_per_s * work(found_for, checkpointing) / work(wanted, checkpointing)


def estimate_speed(tune: Tune, shape: Shape, step: Step, mean_length: float) -> Speed:
    """From a third of a second of matrix products on the device, in the precision of the run."""
    rate = matrix_speed(step.device, step.bytes_each)
    # 2 for each weight (words are looked up, and projected once), and attention over half of the row on average
    forward = 2 * (shape.linear + shape.vocabulary * shape.width) + 2 * shape.layers * mean_length * shape.attention
    tokens = _REACHED * rate / (forward * work(tune, step.checkpointing))
    how = (
        f"estimated: {forward * work(tune, step.checkpointing) / 1e9:,.3g} billion operations a token, at "
        f"{_REACHED:.0%} of the {rate / 1e9:,.0f} billion a second of plain matrix products here"
    )
    return Speed(tokens, "estimated", how)


def matrix_speed(device: str, bytes_each: int) -> float:
    """Operations a second of square matrix products, in float32 or bfloat16."""
    import torch

    side = 4096 if device == "cuda" else 1024
    dtype = torch.float32 if bytes_each == 4 else torch.bfloat16
    one = torch.randn(side, side, device=device).to(dtype)
    one @ one  # the first product sets libraries up
    began, done = time.monotonic(), 0
    while time.monotonic() - began < _MATRICES_S:
        one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        done += 1
    return done * 2 * side**3 / (time.monotonic() - began)


def try_out(
    examples: Sequence[Example],
    base: "Base",
    asked: Hyperparameters,
    batch: int,
    settings: "Settings | None",
    threads: int | None,
    otherwise: Speed,
) -> Speed:
    """A few real training steps on examples of the data; the adapter that comes of it is thrown away.

    Returns:
        What was measured; `otherwise`, with the reason, where the trial failed or would run code of the weights' own.
    """
    from train.training import train

    if base.trust_remote_code:
        return replace(otherwise, how=f"{otherwise.how}; not tried, because the base runs code of its own")
    number = min(len(examples), max(10, _STEPS * batch))
    ordered = sorted(examples, key=lambda example: sum(len(m.content) for m in example.conversation.messages))
    # Evenly over the lengths, so that the trial's rows are like the data's.
    taken = [ordered[place * len(ordered) // number] for place in range(number)]
    told: list[Told] = []

    def hear(event: Event) -> None:
        if isinstance(event, Told):
            told.append(event)
            if len(told) > 1 and event.seconds > _TRIAL_S:
                raise _Enough

    try:
        with tempfile.TemporaryDirectory(prefix="parley-trial-") as folder, suppress(_Enough):
            train(
                taken,
                base=base.location,
                out=Path(folder) / "run",
                settings=settings,
                hyperparameters=replace(asked, batch_size=batch, epochs=max(0.01, _STEPS * batch / number)),
                validation=0.0,
                progress=hear,
                threads=threads,
            )
    except ParleyError as error:
        return replace(otherwise, how=f"{otherwise.how}; a trial failed ({str(error).rstrip('.')})")
    first, last = told[0], told[-1]
    tokens, seconds = last.tokens - first.tokens, last.seconds - first.seconds
    if tokens <= 0 or seconds <= 0:  # one step only: nothing to leave out
        tokens, seconds = last.tokens, last.seconds
    return Speed(tokens / seconds, "tried", f"tried out: {len(told)} steps of {batch} examples with this base")
