"""What the Train tab's form asks for, and what every «auto» in it becomes, before anything is started.

It reads the data as the training will and the base's config.json, and loads no weights and no tokenizer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import Invalid
from models.spec import ModelSpec
from train import Hyperparameters, check
from train.hyperparameters import Facts, Resolved, resolve
from ui.backend.model_options import notice

_WHOLE = ("rank", "batch_size", "max_length")
# What depends on the device is decided where it is trained, and told there.
_DEVICES = ("precision", "packing", "checkpointing", "validate_every")
_LARGEST = 64 * 2**20  # bytes of data that are read for a preview


@dataclass(frozen=True)
class Asked:
    """The form: `share` is held out, `numbers` are texts, «auto» or a number."""

    method: str
    tune: str
    share: float
    numbers: Mapping[str, str]

    def hyperparameters(self) -> dict[str, Any]:
        """As a training job takes them; what is «auto» is left out.

        Raises:
            Invalid: a text that is no number, or a number out of range.
        """
        values: dict[str, Any] = {"tune": self.tune}
        for name, text in self.numbers.items():
            text = (text or "").strip() or "auto"
            if text == "auto":
                continue
            try:
                values[name] = int(text) if name in _WHOLE else float(text)
            except ValueError as error:
                kind = "a whole number" if name in _WHOLE else "a number"
                raise Invalid(f"{name.replace('_', ' ')} is {text!r}: use {kind}, or auto.", param=name) from error
        Hyperparameters.from_dict(values)
        return values


def automatic(data: Path, base: ModelSpec, asked: Asked) -> tuple[Resolved | None, str]:
    """Every «auto» by its rule, and what is to be said of the data before the training. HTML.

    None where it cannot be known here: the base is on a hub, or the file is too large to be read for a preview.

    Raises:
        Invalid: data that nothing can be read from, or a number that cannot be.
    """
    hyperparameters = Hyperparameters.from_dict(asked.hyperparameters())
    config = Path(base.path or "") / "config.json"
    if base.kind == "adapter" or not config.is_file() or data.stat().st_size > _LARGEST:
        return None, notice("What «auto» becomes is told when the training starts.", "wait")
    checked = check(data, provider="local")
    pairs = asked.method == "dpo"
    lessons, others = (checked.preferences, checked.examples) if pairs else (checked.examples, checked.preferences)
    what = ("pairs of answers", "conversations") if pairs else ("conversations", "pairs of answers")
    said = f"{len(lessons):,} {what[0]}"
    left = [problem for problem in checked.errors if problem.line]
    if left:
        many = f"{checked.left_out:,} lines are left out, the first is" if checked.left_out > 1 else "left out:"
        said += f"; {many} line {left[0].line}: {left[0].message}"
    if others:
        return None, notice(f"{said}, and {len(others):,} {what[1]}, which this method cannot learn from.", "bad")
    if not checked.usable or not lessons:
        reason = next((problem for problem in checked.errors if not problem.line), None)
        more = f" {reason.message}; {reason.mend}." if reason else ""
        return None, notice(f"{said}.{more}", "bad")
    values = json.loads(config.read_text("utf-8"))
    values = values.get("text_config", values)
    facts = Facts(
        examples=round(len(lessons) * (1 - asked.share)),
        hidden_size=int(values.get("hidden_size", 2_048)),
        context=int(values.get("max_position_embeddings") or 1_000_000),
        held_out=asked.share > 0,
    )
    resolved = resolve(hyperparameters, facts, asked.method)  # type: ignore[arg-type] -- the form offers no others
    told = {name: reason for name, reason in resolved.reasons.items() if name not in _DEVICES}
    return replace(resolved, reasons=told), notice(f"{said}.", "warn" if left else "good")
