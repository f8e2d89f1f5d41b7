"""How to train: every number may be "auto", and every "auto" is a rule that is shown to the user.

The rules follow «LoRA Without Regret» (thinkingmachines.ai, 2025): adapters on every linear layer, a learning rate
ten times that of full fine-tuning, small batches, alpha fixed at 32. Rules only; nothing is trained here.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from models.errors import Invalid

Auto = Literal["auto"]
_LARGEST_RANK = 256
_LONGEST = 4096


@dataclass(frozen=True)
class Hyperparameters:
    """One training run's numbers. Lengths in tokens, shares from 0 to 1."""

    epochs: float | Auto = "auto"
    rank: int | Auto = "auto"
    alpha: int | Auto = "auto"
    learning_rate: float | Auto = "auto"
    batch_size: int | Auto = "auto"
    max_length: int | Auto = "auto"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    dropout: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    qlora: bool = False
    adapter_dtype: Literal["auto", "bfloat16", "float32"] = "auto"

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 0.01, 1000)
        _within("rank", self.rank, 1, _LARGEST_RANK)
        _within("alpha", self.alpha, 1, 4096)
        _within("learning_rate", self.learning_rate, 1e-8, 1)
        _within("batch_size", self.batch_size, 1, 4096)
        _within("max_length", self.max_length, 8, 10_000_000)
        _within("warmup", self.warmup, 0, 0.9)
        _within("dropout", self.dropout, 0, 0.9)
        if self.schedule not in ("cosine", "linear", "constant"):
            raise Invalid(f"schedule is {self.schedule!r}: use cosine, linear or constant.", param="schedule")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Hyperparameters":
        """From JSON; unknown names are refused.

        Raises:
            Invalid: a name that is none of these, or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise Invalid(f"There is no hyperparameter {', '.join(unknown)}.", param="hyperparameters")
        return cls(**values)


@dataclass(frozen=True)
class Facts:
    """What the rules look at: number of training examples, the base's width, and its context in tokens."""

    examples: int
    hidden_size: int
    context: int


@dataclass(frozen=True)
class Chosen:
    """Hyperparameters without any "auto": what a run trains with."""

    epochs: float
    rank: int
    alpha: int
    learning_rate: float
    batch_size: int
    max_length: int
    schedule: str
    warmup: float
    dropout: float
    weight_decay: float
    max_grad_norm: float
    seed: int
    qlora: bool
    adapter_dtype: str


@dataclass(frozen=True)
class Resolved:
    """What was chosen, and for each number that was "auto", the rule in words."""

    values: Chosen
    reasons: dict[str, str]


def resolve(asked: Hyperparameters, facts: Facts) -> Resolved:
    """Every "auto" by its rule; what was given stays as it was given."""
    rules = {
        "epochs": _epochs(facts),
        "rank": _rank(facts),
        "alpha": (32, "32: with alpha / rank scaling one learning rate fits every rank"),
        "learning_rate": _learning_rate(facts),
        "batch_size": _batch_size(facts),
        "max_length": (
            min(facts.context, _LONGEST),
            f"the base's context of {facts.context:,} tokens, {_LONGEST:,} at most",
        ),
    }
    chosen = {name: rule for name, rule in rules.items() if getattr(asked, name) == "auto"}
    numbers: dict[str, Any] = asdict(asked) | {name: value for name, (value, _) in chosen.items()}
    return Resolved(Chosen(**numbers), {name: reason for name, (_, reason) in chosen.items()})


def _epochs(facts: Facts) -> tuple[int, str]:
    epochs = min(5, max(1, math.ceil(10_000 / max(1, facts.examples))))
    return epochs, f"10,000 examples seen in all, 1 to 5 epochs: {facts.examples:,} examples"


def _rank(facts: Facts) -> tuple[int, str]:
    rank = 16 if facts.examples < 2_000 else 32
    return rank, "16 under 2,000 examples, else 32: room for more than the examples can say"


def _learning_rate(facts: Facts) -> tuple[float, str]:
    # The paper's fit over Llamas, to which small models keep: 2.5e-3 at width 256, 5e-4 at 2,000, 3e-4 at 4,096.
    rate = 10 * 5e-5 * (2_000 / max(1, facts.hidden_size)) ** 0.78
    rate = float(f"{min(4e-3, max(1e-4, rate)):.2g}")
    return rate, f"10 × 5e-5 × (2000 / width)^0.78, 1e-4 to 4e-3: width {facts.hidden_size:,}"


def _batch_size(facts: Facts) -> tuple[int, str]:
    size = 2 ** int(math.log2(min(16, max(2, facts.examples / 50))))
    return size, "examples / 50 as a power of two, 2 to 16: small batches suit LoRA"


def _within(name: str, value: float | str, low: float, high: float) -> None:
    if value == "auto":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Invalid(f'{name} is {value!r}: use "auto" or a number from {low:g} to {high:g}.', param=name)
