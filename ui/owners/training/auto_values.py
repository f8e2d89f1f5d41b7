"""The Train tab's form, and a preview of what each "auto" in it becomes.

The preview reads the training file and the base's config.json. It loads no weights and no tokenizer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from models.chat_templates import read_template
from models.errors import Invalid
from models.quantities import count_noun
from models.spec import ModelSpec
from train import Hyperparameters, check
from train.hyperparameters import Facts, Resolved, resolve
from ui.look.markup import notice
from ui.look.number_field import NumberField

# The hyperparameters that are typed as text, in the order of the form's fields.
NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "epochs": "Epochs",
        "rank": "LoRA rank",
        "learning_rate": "Learning rate",
        "batch_size": "Batch size",
        "max_length": "Maximum length (tokens)",
    }
)
HELD_OUT = NumberField("Held out for validation", 0, 0.5, unit="share, 0 to 0.5")
_WHOLE_NUMBERS = ("rank", "batch_size", "max_length")
# These depend on the device, so they are decided on the machine that trains.
_DEVICE_VALUES = ("precision", "packing", "checkpointing", "validate_every")
_MAX_PREVIEW_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TrainingForm:
    """The form: `share` is held out for validation; each of `numbers` is "auto" or a number as text.

    `chat_template` is the name of one of Parley's templates; empty for the base's own.
    """

    data: str | None
    base: str | None
    name: str
    kind: str
    method: str
    tune: str
    share: float | None
    numbers: tuple[str, ...]
    fold_system: bool = False
    chat_template: str | None = None

    def template_options(self) -> dict[str, Any]:
        """The fields of a training job for the chat template and the system messages; empty for the defaults."""
        options: dict[str, Any] = {"columns": {"fold_system": True}} if self.fold_system else {}
        return options | ({"chat_template": read_template(self.chat_template)} if self.chat_template else {})

    def held_out(self) -> float:
        """The share that is held out.

        Raises:
            Invalid: it is out of range.
        """
        return HELD_OUT.read(self.share)

    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters of a training job, without those that are "auto".

        Raises:
            Invalid: a text is not a number, or a number is out of range.
        """
        values: dict[str, Any] = {"tune": self.tune}
        for name, typed in zip(NUMBERS, self.numbers, strict=False):
            text = (typed or "").strip() or "auto"
            if text == "auto":
                continue
            try:
                values[name] = int(text) if name in _WHOLE_NUMBERS else float(text)
            except ValueError as error:
                kind = "a whole number" if name in _WHOLE_NUMBERS else "a number"
                raise Invalid(f"{NUMBERS[name]} is {text!r}: use {kind}, or auto.", param=name) from error
        Hyperparameters.from_dict(values)
        return values


class Preview(NamedTuple):
    """The resolved values, None if they cannot be known yet, and a notice about the data as HTML."""

    resolved: Resolved | None
    html: str


def preview_auto_values(data: Path, base: ModelSpec, form: TrainingForm) -> Preview:
    """What each "auto" becomes with this data and base. Unknown for a base on a hub and for a very large file.

    Raises:
        Invalid: the data cannot be read, or a number is invalid.
    """
    hyperparameters = Hyperparameters.from_dict(form.hyperparameters())
    config = Path(base.path or "") / "config.json"
    if base.kind == "adapter" or not config.is_file() or data.stat().st_size > _MAX_PREVIEW_BYTES:
        return Preview(None, notice("The automatic values are chosen when the training starts.", "wait"))
    checked = check(data, provider="local")
    kinds = {
        "sft": ("conversations", tuple(one for one in checked.examples if one.label is None)),
        "dpo": ("preference pairs", checked.preferences),
        "kto": ("labelled answers", tuple(one for one in checked.examples if one.label is not None)),
    }
    noun, examples = kinds[form.method]
    others = [kind for method, kind in kinds.items() if method != form.method]
    other_noun, unusable = max(others, key=lambda kind: len(kind[1]))
    summary = count_noun(len(examples), noun.removesuffix("s"))
    bad_lines = [problem for problem in checked.errors if problem.line]
    if bad_lines:
        first = f"line {bad_lines[0].line}: {bad_lines[0].message}"
        summary += f". {checked.left_out:,} lines will be skipped, the first is {first}" if checked.left_out > 1 else (
            f". 1 line will be skipped: {first}"
        )  # fmt: skip
    if unusable:
        others_count = count_noun(len(unusable), other_noun.removesuffix("s"))
        return Preview(
            None,
            notice(
                f"{summary}. This method cannot use the file's {others_count}.",
                "bad",
            ),
        )
    if not checked.usable or not examples:
        problem = next((problem for problem in checked.errors if not problem.line), None)
        reason = f" {problem.message}; {problem.mend}." if problem else ""
        return Preview(None, notice(f"{summary}.{reason}", "bad"))
    resolved = resolve(hyperparameters, _facts(config, len(examples), form.held_out()), form.method)  # type: ignore[arg-type] -- the form offers no others
    shown = {name: reason for name, reason in resolved.reasons.items() if name not in _DEVICE_VALUES}
    return Preview(replace(resolved, reasons=shown), notice(f"{summary}.", "warn" if bad_lines else "good"))


def _facts(config: Path, examples: int, share: float) -> Facts:
    values = json.loads(config.read_text("utf-8"))
    values = values.get("text_config", values)
    return Facts(
        examples=round(examples * (1 - share)),
        hidden_size=int(values.get("hidden_size", 2_048)),
        context=int(values.get("max_position_embeddings") or 1_000_000),
        held_out=share > 0,
    )
