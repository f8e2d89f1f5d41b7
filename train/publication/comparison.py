"""Compares published weights with float32 base + adapter, for each kind of model, and decides whether they pass.

`parity` measures; `merge` compares merged weights itself; `served_answers` asks the engine.
"""

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from models.database import utcnow
from models.errors import Unavailable
from models.spec import Parity
from train.publication.adapted import TEMPLATE, load_adapted, load_adapted_tokenizer, trained_template
from train.publication.parity import (
    LEAST_AGREEMENT,
    ProbeOutputs,
    agreement,
    count_top_tokens,
    outputs,
    reference_outputs,
    stop_tokens,
)
from train.publication.probes import GREEDY_TOKENS, Probe, ProbeSet
from train.trainers.bases import Base, count_parameters, load_config, load_model, load_tokenizer, stored_dtype
from train.trainers.runtime import quiet

_LOGITS_BYTES = 2**29  # reference logits, see `parity`


@dataclass(frozen=True)
class Question:
    """A prompt for an engine, and the reference's answer to it as text."""

    messages: tuple[dict[str, Any], ...]
    prompt: tuple[int, ...]
    text: str
    tokens: int


@dataclass(frozen=True)
class Compared:
    """The parity measured without an engine, and the questions for the engine."""

    parity: Parity
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Reference:
    """Float32 weights to compare with: a base with an adapter, or the base alone if `adapter` is None.

    `description` says what it is if it is not base + adapter.
    """

    base: Base
    adapter: Path | None
    description: str = ""

    def load(self, dtype: Any = torch.float32) -> Any:
        """The model in evaluation mode."""
        if self.adapter is None:
            return load_model(self.base, dtype, "cpu").eval()
        return load_adapted(self.base, self.adapter, dtype)

    def tokenizer(self) -> Any:
        """The tokenizer of its training."""
        return load_tokenizer(self.base) if self.adapter is None else load_adapted_tokenizer(self.base, self.adapter)


def compare(reference: Reference, published: Reference, probes: ProbeSet) -> Compared:
    """Measures `published`, in the dtype in which it is served, against `reference` in float32.

    Args:
        published: for an adapter the same as the reference, because its base's engine serves it unmerged.

    Raises:
        NotEnoughMemory: float32 weights do not fit into free memory.
    """
    with quiet():
        require_memory(reference.base)
        tokenizer = load_tokenizer(published.base)
        dtype = served_dtype(published.base)
        model = reference.load()
        ready, expected = reference_outputs(model, tokenizer, probes, context_of(published.base))
        del model
        gc.collect()
        measured = agreement(expected, outputs(published.load(dtype), tokenizer, ready, greedy=0), dtype)
    source = f"{probes.source}; against {reference.description}" if reference.description else probes.source
    parity = Parity(
        checked=utcnow(), probes=len(ready), source=source, tokens=expected.tokens,
        dtype=dtype_name(dtype), agreement=measured.top1, kl=measured.kl,
    )  # fmt: skip
    return Compared(judged(parity), questions(tokenizer, ready, expected))


class NotEnoughMemory(Unavailable):
    """A model does not fit into memory in float32."""


def require_memory(base: Base) -> None:
    """Checks before anything is loaded that it fits, because a process killed for memory reports nothing.

    Raises:
        NotEnoughMemory: with what it needs, and what is free.
    """
    needed = 1.15 * 4 * count_parameters(load_config(base)) + _LOGITS_BYTES
    free = psutil.virtual_memory().available
    if needed > free:
        raise NotEnoughMemory(
            f"Comparing needs {base.name} in float32, about {needed / 1e9:.0f} GB of memory, and {free / 1e9:.0f} GB "
            "is free: free some memory, or compare on another machine."
        )


def judged(parity: Parity) -> Parity:
    """The same, with `refused` set if it does not pass."""
    reason = ""
    if not parity.agreement >= LEAST_AGREEMENT:  # so that NaN is refused too
        reason = f"in {parity.dtype} it ranks the reference's token first at {parity.agreement:.1%} of the positions"
    elif parity.served and not parity.served.agreement >= LEAST_AGREEMENT:
        reason = f"through vLLM it gives the reference's token at {parity.served.agreement:.1%} of the positions"
    refused = f"{reason}, under {LEAST_AGREEMENT:.0%}" if reason else ""
    return parity.model_copy(update={"refused": refused})


def questions(tokenizer: Any, probes: tuple[Probe, ...], expected: ProbeOutputs) -> tuple[Question, ...]:
    """The probes for the API: those of plain text that the reference has answered greedily."""
    return tuple(
        Question(
            probe.messages, probe.prompt, tokenizer.decode(answer.ids, skip_special_tokens=True), len(answer.margins)
        )
        for probe, answer in zip(probes, expected.greedy, strict=False)
        if probe.plain
    )


def agreed_tokens(reference: Reference, answers: list[tuple[Question, str]]) -> tuple[int, int]:
    """The number of tokens in other answers that the reference ranks first, and the number of tokens.

    If an answer is shorter than the limit, its end counts as a token.
    """
    with quiet():
        tokenizer, model = reference.tokenizer(), reference.load()
        stops, dtype = stop_tokens(model, tokenizer), served_dtype(reference.base)
        same = tokens = 0
        for question, text in answers:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"][:GREEDY_TOKENS]
            if len(ids) < GREEDY_TOKENS and stops:
                ended = max(count_top_tokens(model, (*question.prompt, *ids), (stop,), dtype) for stop in stops)
                same, tokens = same + ended, tokens + 1
            if ids:
                same, tokens = same + count_top_tokens(model, question.prompt, ids, dtype), tokens + len(ids)
    return same, tokens


def write_template(base: Base, folder: Path) -> None:
    """Writes the chat template of the training, unchanged, into an adapter's folder."""
    with quiet():
        template = load_tokenizer(base).chat_template
    if template:
        (folder / TEMPLATE).write_bytes(template.encode())


def with_trained_template(base: Base, adapter: Path) -> Base:
    """The base with the chat template that an adapter was trained with, if the adapter's folder has one."""
    template = trained_template(adapter)
    return replace(base, chat_template=template) if template else base


def served_dtype(base: Base) -> Any:
    """The torch dtype in which an engine runs it: from its options, otherwise the stored one."""
    name = base.spec.engine.dtype if base.spec else "auto"
    return stored_dtype(base) if name == "auto" else getattr(torch, {"half": "float16"}.get(name, name))


def context_of(base: Base) -> int:
    """The context in tokens with which it is served."""
    longest = int(getattr(load_config(base), "max_position_embeddings", 0) or 1_000_000)
    limit = base.spec.engine.max_model_len if base.spec else None
    return min(longest, limit or longest)


def dtype_name(dtype: Any) -> str:
    """Without the module: bfloat16."""
    return str(dtype).removeprefix("torch.")
