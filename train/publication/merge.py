"""Base + adapter → plain weights that say the same, or nothing at all.

The merge is made in float32 from the pristine base and cast once, to the type the base is stored in: merging in
bf16 changed 16.9 % of weights in others' hands. Before anything is written, merged logits and greedy answers are held
against those of base + adapter; after, what was written is read back, weight by weight. It registers nothing.
"""

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.database import utcnow
from models.errors import ParleyError
from models.spec import Parity
from train.publication.comparison import (
    Compared,
    context_of,
    dtype_name,
    judged,
    load_adapted,
    questions,
    require_room,
    served_dtype,
)
from train.publication.parity import agreement, first_heard, largest_difference, listen, rounding_limit, same_greedy
from train.publication.probes import ProbeSet, built_in
from train.run.folder import write_json
from train.trainers.bases import Base, adapter_facts, load_model, load_tokenizer, stored_dtype
from train.trainers.library_output import quiet

MERGE = "merge.json"


@dataclass(frozen=True)
class MergeReport:
    """Where the merged weights are, and how they compare with base + adapter (`compared.parity`).

    `difference` is of logits in float32, before the cast; over `limit` it would have been refused. `agreement` is the
    share of probe positions at which the weights as written, in `dtype`, prefer the same next token.
    """

    folder: Path
    compared: Compared
    difference: float
    limit: float

    @property
    def parity(self) -> Parity:
        """All that was measured."""
        return self.compared.parity

    @property
    def agreement(self) -> float:
        """Of the weights as written, in the type in which they are served."""
        return self.parity.agreement

    @property
    def dtype(self) -> str:
        """The type in which they are served."""
        return self.parity.dtype


class MergeRefused(ParleyError):
    """The merged weights do not say what base + adapter say; nothing was written."""

    status = 422


def merge(base: Base, adapter: Path, folder: Path, probes: ProbeSet | None = None) -> MergeReport:
    """Merges an adapter into its base and writes a folder that transformers and vLLM load.

    Args:
        base: the pristine base, never a quantised or already merged copy.
        adapter: its folder. folder: where the weights go; made, and removed again where the merge is refused.
        probes: the conversations to compare on; questions of our own without them.

    Returns:
        What was measured. The folder holds safetensors, tokenizer, chat template and generation settings.

    Raises:
        MergeRefused: logits differ by more than the limit, greedy answers differ, or what was written reads back
        differently. Invalid, Unavailable: the adapter or the base cannot be loaded, or does not fit into memory.
    """
    adapter_facts(adapter)
    with quiet():
        return _merge(base, adapter, folder, probes or built_in())


def _merge(base: Base, adapter: Path, folder: Path, asked: ProbeSet) -> MergeReport:
    require_room(base)
    stored = stored_dtype(base)
    tokenizer = load_tokenizer(base)
    unmerged = load_adapted(base, adapter, torch.float32)
    probes, expected = first_heard(unmerged, tokenizer, asked, context_of(base))
    limit = rounding_limit(unmerged, probes, expected)
    merged = unmerged.merge_and_unload().eval()
    heard = listen(merged, tokenizer, probes, greedy=len(expected.greedy))
    difference = largest_difference(expected, heard)
    if not difference <= limit:  # so that NaN is refused too
        raise MergeRefused(
            f"The merge of {adapter.name} into {base.name} was refused: merged and unmerged logits differ by "
            f"{difference:.2g}, more than {limit:.2g}. Nothing was written; serve the adapter as it is."
        )
    same, of = same_greedy(expected, heard, limit)
    if same < of:
        raise MergeRefused(
            f"The merge of {adapter.name} into {base.name} was refused: {of - same} of {of} greedy answers are others "
            "in float32. Nothing was written; serve the adapter as it is."
        )
    del unmerged, heard
    _cast(merged, stored)
    with _removed_on_error(folder):
        merged.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        _check_template(tokenizer, folder, base)
        again = load_model(Base(base.name, str(folder), None, base.trust_remote_code), stored, "cpu").eval()
        if strayed := _strayed(merged, again):
            raise MergeRefused(
                f"The merged weights of {adapter.name} read back differently ({strayed}). "
                "Nothing was kept; serve the adapter as it is."
            )
        del merged
        gc.collect()
        dtype = served_dtype(base)
        published = listen(again.to(dtype), tokenizer, probes, greedy=0)
        measured = agreement(expected, published)
        parity = Parity(
            checked=utcnow(),
            probes=len(probes),
            source=asked.source,
            tokens=expected.tokens,
            difference=difference,
            limit=limit,
            same_greedy=f"{same} of {of}",
            dtype=dtype_name(dtype),
            agreement=measured.top1,
            kl=measured.kl,
        )
        compared = Compared(judged(parity), questions(tokenizer, probes, expected))
        write_json(folder / MERGE, {"base": base.name} | compared.parity.model_dump(mode="json"))
    return MergeReport(folder, compared, difference, limit)


def _check_template(tokenizer: Any, folder: Path, base: Base) -> None:
    """The chat template of training travels with the weights, to the letter."""
    written = load_tokenizer(Base(base.name, str(folder), None, base.trust_remote_code)).chat_template
    if written != tokenizer.chat_template:
        raise MergeRefused(f"The chat template of {base.name} was written differently from how it was read.")


def _strayed(merged: Any, again: Any) -> str | None:
    """The first weight that reads back otherwise than it was written; None where all are the same."""
    found = dict(again.named_parameters())
    for name, weight in merged.named_parameters():
        if name not in found or not torch.equal(weight, found[name]):
            return name
    return None


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Casts weights only: buffers, such as rotary frequencies, are computed in float32 whatever the weights are."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


@contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
