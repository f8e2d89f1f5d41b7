"""Holds what is published against float32 base + adapter, for each kind of model, and says whether it passes.

It loads weights and measures with `parity`; what is merged is measured by `merging`, on its way. It asks no engine
(`asking` does) and registers nothing.
"""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from models.database import utcnow
from models.errors import Unavailable
from models.spec import Parity
from train.publication.parity import (
    LEAST_AGREEMENT,
    Heard,
    agreement,
    chosen_share,
    first_heard,
    listen,
    stop_tokens,
)
from train.publication.probes import GREEDY_TOKENS, Probe, ProbeSet
from train.trainers.bases import Base, count_parameters, load_config, load_model, load_tokenizer, stored_dtype
from train.trainers.library_output import quiet

TEMPLATE = "chat_template.jinja"
_HELD_BYTES = 2**29  # reference logits, see `parity`


@dataclass(frozen=True)
class Question:
    """What an engine is asked, and what the reference says to it: `text`, as it would be read."""

    messages: tuple[dict[str, Any], ...]
    prompt: tuple[int, ...]
    text: str
    tokens: int


@dataclass(frozen=True)
class Compared:
    """What was measured without an engine, and the questions that an engine can be asked after it."""

    parity: Parity
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Reference:
    """Float32 weights to compare with: a base, with an adapter on it or, where `adapter` is None, by itself.

    `words` says what it is where it is not base + adapter.
    """

    base: Base
    adapter: Path | None
    words: str = ""

    def load(self, dtype: Any = torch.float32) -> Any:
        """The model, ready to be asked."""
        if self.adapter is None:
            return load_model(self.base, dtype, "cpu").eval()
        return load_adapted(self.base, self.adapter, dtype)


def compare(reference: Reference, published: Reference, probes: ProbeSet) -> Compared:
    """Measures `published` in the type in which it is served against `reference` in float32.

    Args:
        published: the same as the reference for an adapter, which is served on its base's engine as it is.

    Raises:
        NoRoom: float32 weights do not fit into the memory that is free.
    """
    with quiet():
        require_room(reference.base)
        tokenizer = load_tokenizer(published.base)
        dtype = served_dtype(published.base)
        model = reference.load()
        ready, expected = first_heard(model, tokenizer, probes, context_of(published.base))
        del model
        gc.collect()
        measured = agreement(expected, listen(published.load(dtype), tokenizer, ready, greedy=0))
    source = f"{probes.source}; against {reference.words}" if reference.words else probes.source
    parity = Parity(
        checked=utcnow(), probes=len(ready), source=source, tokens=expected.tokens,
        dtype=dtype_name(dtype), agreement=measured.top1, kl=measured.kl,
    )  # fmt: skip
    return Compared(judged(parity), questions(tokenizer, ready, expected))


class NoRoom(Unavailable):
    """There is not the memory to hold a model in float32."""


def require_room(base: Base) -> None:
    """Tells before anything is loaded that it would not fit: a process that is killed for memory tells nothing.

    Raises:
        NoRoom: what it needs, and what there is.
    """
    needed = 1.15 * 4 * count_parameters(load_config(base)) + _HELD_BYTES
    free = psutil.virtual_memory().available
    if needed > free:
        raise NoRoom(
            f"Comparing needs {base.name} in float32, about {needed / 1e9:.0f} GB of memory, and {free / 1e9:.0f} GB "
            "are free: stop what uses them, or compare on another machine."
        )


def judged(parity: Parity) -> Parity:
    """The same, with `refused` set where it does not pass."""
    reason = ""
    if not parity.agreement >= LEAST_AGREEMENT:  # so that NaN is refused too
        reason = f"in {parity.dtype} it prefers the reference's token at {parity.agreement:.1%} of the positions"
    elif parity.served and not parity.served.agreement >= LEAST_AGREEMENT:
        reason = f"through vLLM it says the reference's token at {parity.served.agreement:.1%} of the positions"
    refused = f"{reason}, under {LEAST_AGREEMENT:.0%}" if reason else ""
    return parity.model_copy(update={"refused": refused})


def questions(tokenizer: Any, probes: tuple[Probe, ...], expected: Heard) -> tuple[Question, ...]:
    """What can be asked over the API: the probes of plain text that the reference has answered greedily."""
    return tuple(
        Question(probe.messages, probe.prompt, tokenizer.decode(said.ids, skip_special_tokens=True), len(said.margins))
        for probe, said in zip(probes, expected.greedy, strict=False)
        if probe.plain
    )


def agreed_tokens(reference: Reference, said: list[tuple[Question, str]]) -> tuple[int, int]:
    """How many tokens of other answers than its own the reference would have said, and of how many.

    An answer shorter than what may be said has ended, and its end counts as a token.
    """
    with quiet():
        tokenizer, model = load_tokenizer(reference.base), reference.load()
        stops = stop_tokens(model, tokenizer)
        same = tokens = 0
        for question, text in said:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"][:GREEDY_TOKENS]
            if len(ids) < GREEDY_TOKENS and stops:
                ended = max(chosen_share(model, (*question.prompt, *ids), (stop,)) for stop in stops)
                same, tokens = same + ended, tokens + 1
            if ids:
                same, tokens = same + chosen_share(model, question.prompt, ids), tokens + len(ids)
    return same, tokens


def load_adapted(base: Base, adapter: Path, dtype: Any) -> Any:
    """Base + adapter, both in one type, as an engine holds them."""
    from peft import PeftModel  # here, within `quiet`: it brings bitsandbytes, which warns when it is imported

    model = load_model(base, dtype, "cpu")
    return PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False).to(dtype).eval()


def write_template(base: Base, folder: Path) -> None:
    """Puts the chat template that was trained with beside an adapter, to the letter: an adapter has no other place."""
    with quiet():
        template = load_tokenizer(base).chat_template
    if template:
        (folder / TEMPLATE).write_bytes(template.encode())


def served_dtype(base: Base) -> Any:
    """The torch dtype in which an engine runs it: what its options say, else the one that it is stored in."""
    asked = base.spec.engine.dtype if base.spec else "auto"
    return stored_dtype(base) if asked == "auto" else getattr(torch, {"half": "float16"}.get(asked, asked))


def context_of(base: Base) -> int:
    """Tokens that it can hold as it is served."""
    longest = int(getattr(load_config(base), "max_position_embeddings", 0) or 1_000_000)
    asked = base.spec.engine.max_model_len if base.spec else None
    return min(longest, asked or longest)


def dtype_name(dtype: Any) -> str:
    """As people write it: bfloat16."""
    return str(dtype).removeprefix("torch.")
