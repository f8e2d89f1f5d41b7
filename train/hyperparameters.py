"""Hyperparameters: every number may be "auto", and every "auto" follows a rule that is shown to the user.

The rules follow "LoRA Without Regret" (thinkingmachines.ai, 2025): adapters on every linear layer, a learning rate
ten times that of full fine-tuning, small batches, alpha fixed at 32. Nothing is trained here; `Facts` describes the
data, the base and the device.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from models.errors import Invalid
from models.quantities import count_noun

Auto = Literal["auto"]
Tune = Literal["lora", "qlora", "full"]
Method = Literal["sft", "dpo", "kto"]
Packing = Literal["auto", "length", "packed"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]

METHODS = ("sft", "dpo", "kto")
UNITS: Mapping[str, str] = {
    "sft": "conversations",
    "dpo": "pairs",
    "kto": "labelled answers",
}  # the training data of each method
_LARGEST_RANK = 256
_LONGEST = 4096
_CHECKPOINTED = 1_000_000_000  # parameters from which activations are recomputed instead of stored
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "tune": ("lora", "qlora", "full"),
    "schedule": ("cosine", "linear", "constant"),
    "packing": ("auto", "length", "packed"),
    "precision": ("auto", "bf16", "fp16", "fp32"),
    "adapter_dtype": ("auto", "bfloat16", "float32"),
}


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of one run. Lengths in tokens, shares from 0 to 1.

    Attributes:
        tune: "lora" trains an adapter, "qlora" an adapter over a base held in 4 bits, "full" every weight.
        rslora: scale by alpha / √rank (arXiv:2312.03732). dora: learn each weight's magnitude separately from its
            direction (arXiv:2402.09353).
        beta: the cost of drifting from the base in DPO and KTO (KL penalty, arXiv:2305.18290 and 2402.01306).
        packing: "length" pads the rows of a batch, which have similar lengths, to the longest; "packed" lays them end
            to end without letting them see each other. It changes the speed, and the result by rounding only.
        early_stopping: validations in a row without a better loss before a run stops; the best weights are restored.
        learning_rate_multiplier: scales the automatic rate, as in OpenAI's API.
        validate_every: in steps. checkpointing: recompute activations instead of storing them.
    """

    epochs: float | Auto = "auto"
    rank: int | Auto = "auto"
    alpha: int | Auto = "auto"
    learning_rate: float | Auto = "auto"
    learning_rate_multiplier: float = 1.0
    batch_size: int | Auto = "auto"
    max_length: int | Auto = "auto"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.05
    dropout: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    tune: Tune = "lora"
    rslora: bool = False
    dora: bool = False
    beta: float | Auto = "auto"
    packing: Packing = "auto"
    precision: Precision = "auto"
    checkpointing: bool | Auto = "auto"
    early_stopping: int | None = None
    validate_every: int | Auto = "auto"
    adapter_dtype: Literal["auto", "bfloat16", "float32"] = "auto"

    def __post_init__(self) -> None:
        _within("epochs", self.epochs, 0.01, 1000)
        _within("rank", self.rank, 1, _LARGEST_RANK, whole=True)
        _within("alpha", self.alpha, 1, 4096)
        _within("learning_rate", self.learning_rate, 1e-8, 1)
        _within("learning_rate_multiplier", self.learning_rate_multiplier, 1e-6, 1000)
        if self.learning_rate_multiplier != 1 and self.learning_rate != "auto":
            raise Invalid(
                "learning_rate_multiplier scales the automatic rate: give it, or a learning_rate, not both.",
                param="learning_rate_multiplier",
            )
        _within("batch_size", self.batch_size, 1, 4096, whole=True)
        _within("max_length", self.max_length, 8, 10_000_000, whole=True)
        _within("warmup", self.warmup, 0, 0.9)
        _within("dropout", self.dropout, 0, 0.9)
        _within("weight_decay", self.weight_decay, 0, 1)
        _within("max_grad_norm", self.max_grad_norm, 1e-6, 1e6)
        _within("beta", self.beta, 1e-4, 2)  # OpenAI's range ends at 2 too
        _within("validate_every", self.validate_every, 1, 1_000_000, whole=True)
        if self.early_stopping is not None:
            _within("early_stopping", self.early_stopping, 1, 1000, whole=True)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                allowed = f"{', '.join(choices[:-1])} or {choices[-1]}"
                raise Invalid(f"{name} is {getattr(self, name)!r}: use {allowed}.", param=name)
        for name in ("rslora", "dora"):
            if not isinstance(getattr(self, name), bool):
                raise Invalid(f"{name} is {getattr(self, name)!r}: use true or false.", param=name)
        if self.checkpointing not in (True, False, "auto"):
            raise Invalid(f'checkpointing is {self.checkpointing!r}: use "auto", true or false.', param="checkpointing")
        self._check_adapter_options()

    def _check_adapter_options(self) -> None:
        if self.tune != "full":
            return
        # An error, because a rank that is silently ignored would look as if it had been used.
        for name in ("rslora", "dora", "dropout"):
            if getattr(self, name):
                raise Invalid(f"{name} belongs to adapters: leave it out, or use tune lora or qlora.", param=name)
        for name in ("rank", "alpha"):
            if getattr(self, name) != "auto":
                raise Invalid(f"{name} belongs to adapters, and full tuning has none: leave it out.", param=name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Hyperparameters":
        """From JSON; unknown names are refused.

        Raises:
            Invalid: an unknown name, or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise Invalid(f"There is no hyperparameter {', '.join(unknown)}.", param="hyperparameters")
        return cls(**values)


@dataclass(frozen=True)
class Facts:
    """What the rules depend on: the number of training examples and token rows; the base's width, its context in
    tokens and its number of parameters; the device ("cpu" or "cuda") and its abilities; whether anything is held out;
    and the number of processes that share each batch.
    """

    examples: int
    hidden_size: int
    context: int
    parameters: int = 0
    rows: int = 0
    device: str = "cpu"
    bf16: bool = False
    flash: bool = False
    held_out: bool = True
    processes: int = 1


@dataclass(frozen=True)
class Chosen:
    """Hyperparameters without any "auto", as a run uses them. `method` is "sft", "dpo" or "kto"."""

    epochs: float
    rank: int
    alpha: int
    learning_rate: float
    learning_rate_multiplier: float
    batch_size: int
    max_length: int
    schedule: str
    warmup: float
    dropout: float
    weight_decay: float
    max_grad_norm: float
    seed: int
    tune: str
    rslora: bool
    dora: bool
    beta: float
    packing: str
    precision: str
    checkpointing: bool
    early_stopping: int | None
    validate_every: int
    adapter_dtype: str
    method: str = "sft"


@dataclass(frozen=True)
class Resolved:
    """The values, and the rule in words for each one that was "auto"."""

    values: Chosen
    reasons: dict[str, str]


def resolve(requested: Hyperparameters, facts: Facts, method: Method = "sft") -> Resolved:
    """Replaces every "auto" by its rule; other values stay as they are.

    Raises:
        Invalid: an unknown method, or a value that the method or the device does not support.
    """
    _refuse(requested, facts, method)
    rules: dict[str, tuple[Any, str]] = {
        "epochs": _epochs(facts, method),
        "rank": _rank(facts),
        "alpha": (32, "32: with alpha / rank scaling one learning rate fits every rank"),
        "learning_rate": _learning_rate(facts, requested, method),
        "batch_size": _batch_size(facts, method),
        "max_length": (
            min(facts.context, _LONGEST),
            f"the base's context of {facts.context:,} tokens, {_LONGEST:,} at most",
        ),
        "beta": (0.1, "0.1, as in the paper: less lets the model drift further from its base"),
        "packing": _packing(facts, requested, method),
        "precision": _precision(facts),
        "checkpointing": (
            facts.parameters > _CHECKPOINTED,
            f"on above {_CHECKPOINTED / 1e9:g} billion parameters; the base has about {_millions(facts.parameters)}",
        ),
    }
    chosen = {name: rule for name, rule in rules.items() if getattr(requested, name) == "auto"}
    numbers: dict[str, Any] = asdict(requested) | {name: value for name, (value, _) in chosen.items()}
    if requested.validate_every == "auto":
        chosen["validate_every"] = _validate_every(requested, facts, numbers["batch_size"])
        numbers["validate_every"] = chosen["validate_every"][0]
    reasons = {name: reason for name, (_, reason) in chosen.items() if name not in _unused(requested, method)}
    return Resolved(Chosen(**numbers, method=method), reasons)


def _unused(requested: Hyperparameters, method: Method) -> set[str]:
    """Hyperparameters that have no effect in this run, and so are not reported."""
    unused = {"beta"} if method == "sft" else set()
    return unused | ({"rank", "alpha"} if requested.tune == "full" else set())


def check_method(method: str) -> None:
    """Raises Invalid for a method that does not exist."""
    if method not in METHODS:
        raise Invalid(f"method is {method!r}: use sft, dpo or kto.", param="method")


def _refuse(requested: Hyperparameters, facts: Facts, method: str) -> None:
    check_method(method)
    if method == "sft" and requested.beta != "auto":
        raise Invalid("beta belongs to DPO and KTO: leave it out, or choose the method dpo or kto.", param="beta")
    if method != "sft" and requested.packing == "packed":
        raise Invalid(
            f"{method.upper()} compares answers, which are not packed: leave packing out, or use length.",
            param="packing",
        )
    if method == "kto" and requested.batch_size != "auto" and requested.batch_size < 2 * facts.processes:
        raise Invalid(
            f"batch_size is {requested.batch_size}, but KTO compares the answers of a batch: use at least "
            f"{2 * facts.processes}.",
            param="batch_size",
        )
    if requested.early_stopping and not facts.held_out:
        raise Invalid("Early stopping needs held-out examples: give a validation share above 0.", param="validation")
    if requested.batch_size != "auto" and requested.batch_size % facts.processes:
        raise Invalid(
            f"batch_size is {requested.batch_size}, which {facts.processes} processes cannot share evenly: "
            "use a multiple.",
            param="batch_size",
        )
    if requested.precision == "fp16" and facts.device == "cpu":
        raise Invalid("fp16 needs a GPU: on a CPU use fp32, bf16 or auto.", param="precision")
    if requested.precision == "bf16" and facts.device == "cuda" and not facts.bf16:
        raise Invalid("This GPU does not support bf16: use fp16, fp32 or auto.", param="precision")


def _epochs(facts: Facts, method: Method) -> tuple[int, str]:
    if method != "sft":
        epochs = min(3, max(1, math.ceil(1_000 / max(1, facts.examples))))
        return (
            epochs,
            f"about 1,000 {UNITS[method]} in 1 to 3 epochs, because {method.upper()} overfits early; the data has "
            f"{count_noun(facts.examples, UNITS[method].removesuffix('s'))}",
        )
    epochs = min(5, max(1, math.ceil(10_000 / max(1, facts.examples))))
    return epochs, f"about 10,000 examples in 1 to 5 epochs; the data has {count_noun(facts.examples, 'example')}"


def _rank(facts: Facts) -> tuple[int, str]:
    rank = 16 if facts.examples < 2_000 else 32
    return rank, "16 below 2,000 examples, otherwise 32: more capacity than the examples need"


def _learning_rate(facts: Facts, requested: Hyperparameters, method: Method) -> tuple[float, str]:
    # The paper's fit over Llama models, which small models follow too: 2.5e-3 at width 256, 5e-4 at 2,000, 3e-4 at
    # 4,096.
    rate = min(4e-3, max(1e-4, 10 * 5e-5 * (2_000 / max(1, facts.hidden_size)) ** 0.78))
    reason = f"10 × 5e-5 × (2000 / width)^0.78, within 1e-4 to 4e-3, at width {facts.hidden_size:,}"
    if requested.tune == "full":
        rate, reason = rate / 10, f"{reason}; a tenth for full tuning"
    if method != "sft":
        rate, reason = rate / 20, f"{reason}; a twentieth for {method.upper()}, which damages models at higher rates"
    if requested.rslora:
        # rsLoRA scales by alpha / √rank instead of alpha / rank, so the same rate would take steps √rank times as
        # large.
        rank = requested.rank if requested.rank != "auto" else _rank(facts)[0]
        rate, reason = rate / math.sqrt(rank), f"{reason}; divided by √rank for rsLoRA"
    if requested.learning_rate_multiplier != 1:
        rate, reason = (
            rate * requested.learning_rate_multiplier,
            f"{reason}; times {requested.learning_rate_multiplier:g}",
        )
    return min(1.0, float(f"{rate:.2g}")), reason


def _batch_size(facts: Facts, method: Method) -> tuple[int, str]:
    fewest = 4 if method == "kto" else 2
    size = 2 ** int(math.log2(min(16, max(fewest, facts.examples / 50))))
    reason = f"examples / 50 as a power of two, from {fewest} to 16: small batches suit LoRA"
    if facts.processes > 1:
        size = math.ceil(size / facts.processes) * facts.processes
        size = max(size, 2 * facts.processes) if method == "kto" else size  # KTO compares the answers of a batch
        reason += f"; a multiple of {facts.processes} processes"
    return size, reason


def _packing(facts: Facts, requested: Hyperparameters, method: Method) -> tuple[str, str]:
    if method == "sft" and facts.device == "cpu":
        return "packed", "rows end to end, isolated from each other: no padding"
    # Flash attention takes 16 bits only, and full tuning holds its weights in 32.
    if method == "sft" and facts.flash and requested.tune != "full" and requested.precision != "fp32":
        return "packed", "flash attention is installed: rows end to end, isolated from each other"
    return "length", "rows of similar length share a batch, for little padding"


def _precision(facts: Facts) -> tuple[str, str]:
    if facts.device == "cpu":
        return "fp32", "fp32, because bf16 is slower on a CPU"
    if facts.bf16:
        return "bf16", "bf16, which this GPU supports"
    return "fp16", "fp16 with a scaled loss, because this GPU does not support bf16"


def _validate_every(requested: Hyperparameters, facts: Facts, batch: int) -> tuple[int, str]:
    epoch = max(1, math.ceil((facts.rows or facts.examples) / batch))
    if requested.early_stopping:
        return max(1, epoch // 4), "four times an epoch, because the run may stop early"
    return epoch, "at the end of each epoch"


def _millions(parameters: int) -> str:
    return f"{parameters / 1e9:.1f} billion" if parameters >= 1e9 else f"{parameters / 1e6:.1f} million"


def _within(name: str, value: float | str, low: float, high: float, *, whole: bool = False) -> None:
    if value == "auto":
        return
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise Invalid(f'{name} is {value!r}: use "auto" or {what} from {low:g} to {high:g}.', param=name)
