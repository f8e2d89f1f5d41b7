"""Base + adapter → plain weights that say the same, or nothing at all.

The merge is made in float32 from the pristine base and cast once, to the type the base is stored in: merging in
bf16 changed 16.9 % of weights in others' hands. Before anything is written, the merged logits are held against
those of base + adapter on a set of probes; after, what was written is read back and compared. It registers nothing.
"""

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from models.errors import ParleyError
from train.bases import Base, adapter_facts, load_model, load_tokenizer, stored_dtype
from train.libraries import quiet
from train.runs import write_json

LIMIT = 1e-4  # the largest difference of a logit in float32, where rounding alone does not make more
_ROUNDING = 5  # times what rounding was seen to do, where that is more
_PROBES = (
    "Hello, where is my order 40317?",
    "Please explain, step by step, how I change the address on my account.",
    '¿Cuánto cuesta? 你好。 {"json": [1, 2.5, null]}\n\nThanks!',
)


@dataclass(frozen=True)
class MergeReport:
    """How far merged and unmerged are apart: `difference` in logits in float32, before the cast to `dtype`; over
    `limit` it would have been refused.

    `agreement` is the share of probe positions at which the weights as written, in `dtype`, prefer the same next
    token as float32 base + adapter.
    """

    folder: Path
    dtype: str
    difference: float
    limit: float
    agreement: float
    probe_tokens: int


class MergeRefused(ParleyError):
    """The merged weights do not say what base + adapter say; nothing was written."""

    status = 422


def merge(base: Base, adapter: Path, folder: Path) -> MergeReport:
    """Merges an adapter into its base and writes a folder that transformers and vLLM load.

    Args:
        base: the pristine base, never a quantised or already merged copy.
        adapter: its folder. folder: where the weights go; made, and removed again where the merge is refused.

    Returns:
        What was measured. The folder holds safetensors, tokenizer, chat template and generation settings.

    Raises:
        MergeRefused: the logits differ by more than the limit, or what was written reads back differently.
        Invalid, Unavailable: the adapter or the base cannot be loaded.
    """
    adapter_facts(adapter)
    with quiet():
        return _merge(base, adapter, folder)


def _merge(base: Base, adapter: Path, folder: Path) -> MergeReport:
    dtype = stored_dtype(base)
    tokenizer = load_tokenizer(base)
    probes = _probes(tokenizer)
    pristine = load_model(base, torch.float32, "cpu")
    unmerged = PeftModel.from_pretrained(pristine, str(adapter)).eval()
    expected = _logits(unmerged, probes)
    limit = max(LIMIT, _ROUNDING * _rounding(unmerged, probes, expected))
    merged = unmerged.merge_and_unload()
    difference = _difference(expected, _logits(merged.eval(), probes))
    if not difference <= limit:  # so that NaN is refused too
        raise MergeRefused(
            f"The merge of {adapter.name} into {base.name} was refused: merged and unmerged logits differ by "
            f"{difference:.2g}, more than {limit:.2g}. Nothing was written; serve the adapter as it is."
        )
    _cast(merged, dtype)
    with _removed_on_error(folder):
        merged.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        _cast(merged, torch.float32)
        written = _logits(merged, probes)
        del pristine, unmerged, merged
        gc.collect()
        again = load_model(Base(base.name, str(folder), None, base.trust_remote_code), torch.float32, "cpu").eval()
        strayed = _difference(written, _logits(again, probes))
        if not strayed <= limit:
            raise MergeRefused(
                f"The merged weights of {adapter.name} read back differently (logits by {strayed:.2g}). "
                "Nothing was kept; serve the adapter as it is."
            )
        same = [one.argmax(-1) == other.argmax(-1) for one, other in zip(expected, written, strict=True)]
        report = MergeReport(
            folder=folder,
            dtype=str(dtype).removeprefix("torch."),
            difference=difference,
            limit=limit,
            agreement=float(torch.cat([row.flatten() for row in same]).float().mean()),
            probe_tokens=sum(probe.shape[1] for probe in probes),
        )
        write_json(folder / "merge.json", asdict(report) | {"folder": ".", "base": base.name})
    return report


def _probes(tokenizer: Any) -> list[torch.Tensor]:
    """Token ids to compare on: chats in the model's own template, where it has one."""
    rows = []
    for text in _PROBES:
        chat = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        whole = tokenizer.apply_chat_template(chat, tokenize=False) if tokenizer.chat_template else text
        rows.append(torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]]))
    return rows


def _rounding(model: Any, probes: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """How far logits move when each input is changed by float32's last digit.

    Some models multiply such a change many times. Their merged logits stray as far, through no fault of the merge.
    """
    chance = torch.Generator().manual_seed(0)
    moved = []
    with torch.no_grad():
        for probe in probes:
            inputs = model.get_input_embeddings()(probe)
            signs = torch.randint(0, 2, inputs.shape, generator=chance) * 2 - 1
            inputs = inputs * (1 + signs * torch.finfo(torch.float32).eps)
            moved.append(model(inputs_embeds=inputs, use_cache=False).logits)
    return _difference(expected, moved)


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Casts weights only: buffers, such as rotary frequencies, are computed in float32 whatever the weights are."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _logits(model: Any, probes: list[torch.Tensor]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model(input_ids=probe, use_cache=False).logits for probe in probes]


def _difference(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
