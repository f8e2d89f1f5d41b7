"""Do two models say the same? Logits in float32, the most likely token and divergence in another type, greedy text.

The reference is always float32 base + adapter. It knows torch and numbers, no registry, and publishes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from train.publication.probes import FEWEST, GREEDY_TOKENS, KEPT, Probe, ProbeSet, built_in, in_tokens

LEAST_AGREEMENT = 0.98
LIMIT = 1e-4  # the largest difference of a logit in float32, where rounding alone does not make more
_ROUNDING = 5  # times what rounding was seen to do, where that is more
_ROUNDED_PROBES = 4
_HELD_NUMBERS = 2**27  # float32 numbers of reference logits that are kept in memory: 512 MiB
_SMALL = 50_000_000
_LARGE = 500_000_000  # parameters from which every probe costs seconds on a CPU


@dataclass(frozen=True)
class Spoken:
    """A greedy answer: its token ids, the end-of-turn token left out, and how sure each step was.

    `margins` are the gaps between the first and the second logit, one for each step, the one that ended it included.
    """

    ids: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class Heard:
    """What a model says to probes: for each, float32 logits (answer tokens × vocabulary) before each answer token;
    and its greedy answers to the first of them."""

    logits: tuple[torch.Tensor, ...]
    greedy: tuple[Spoken, ...]

    @property
    def tokens(self) -> int:
        """Positions in all."""
        return sum(len(rows) for rows in self.logits)


@dataclass(frozen=True)
class Agreement:
    """Teacher-forced: the share of positions with the same most likely token, and the mean KL divergence in nats
    per token from the reference's distribution to the other's (Kullback and Leibler, 1951)."""

    top1: float
    kl: float


def first_heard(model: Any, tokenizer: Any, probes: ProbeSet, context: int) -> tuple[tuple[Probe, ...], Heard]:
    """As many probes as this model can afford, in its tokens, and what it says to them: it is the reference.

    A probe without an answer gets the model's own greedy one, so that others are compared on that.

    Args:
        context: tokens that the model can hold.
    """
    parameters = model.num_parameters()
    if parameters < _SMALL:
        # Threads that wait for cores which engines have too took ten times as long as one thread takes.
        torch.set_num_threads(1)
    positions = min(4096, _HELD_NUMBERS // model.get_input_embeddings().weight.shape[0])
    number = FEWEST if parameters > _LARGE else KEPT if positions >= KEPT * GREEDY_TOKENS else KEPT // 2
    options = {"number": number, "answer_tokens": max(8, min(64, positions // number)), "context": context}
    ready = in_tokens(probes, tokenizer, **options) or in_tokens(built_in(), tokenizer, **options)
    stops = stop_tokens(model, tokenizer)
    spoken = tuple(speak(model, probe.prompt, stops) for probe in ready[:FEWEST])
    # Only questions of our own lack answers, and all of those are among the first.
    answers = [probe.answer or said.ids or tuple(stops)[:1] for probe, said in zip(ready, spoken, strict=False)]
    first = [replace(probe, answer=answer) for probe, answer in zip(ready, answers, strict=False)]
    ready = tuple(probe for probe in (*first, *ready[len(first) :]) if probe.answer)
    return ready, Heard(tuple(_answer_logits(model, probe) for probe in ready), spoken)


def listen(model: Any, tokenizer: Any, probes: Sequence[Probe], *, greedy: int) -> Heard:
    """The model's logits on every probe's answer, and its greedy answers to the first `greedy` probes."""
    stops = stop_tokens(model, tokenizer)
    return Heard(
        tuple(_answer_logits(model, probe) for probe in probes),
        tuple(speak(model, probe.prompt, stops) for probe in probes[:greedy]),
    )


def largest_difference(one: Heard, other: Heard) -> float:
    """The largest difference of any logit; NaN where either has a NaN."""
    gaps = [(a - b).abs().max() for a, b in zip(one.logits, other.logits, strict=True)]
    return float(torch.stack(gaps).max())


def rounding_limit(model: Any, probes: Sequence[Probe], heard: Heard) -> float:
    """How far logits of the same weights may be apart in float32: 1e-4, or more where rounding alone does more.

    Some models multiply a change in float32's last digit many times, and their merged logits stray as far, through
    no fault of the merge. So each input is changed by that much once, and what it did times five is allowed.
    """
    chance = torch.Generator().manual_seed(0)
    moved = 0.0
    for probe, expected in zip(probes[:_ROUNDED_PROBES], heard.logits, strict=False):
        ids = torch.tensor([probe.prompt + probe.answer])
        with torch.no_grad():
            inputs = model.get_input_embeddings()(ids)
            signs = torch.randint(0, 2, inputs.shape, generator=chance) * 2 - 1
            inputs = inputs * (1 + signs * torch.finfo(torch.float32).eps)
            logits = model(inputs_embeds=inputs, use_cache=False).logits[0].float()
        moved = max(moved, float((_of_answer(logits, probe) - expected).abs().max()))
    return max(LIMIT, _ROUNDING * moved)


def agreement(reference: Heard, other: Heard) -> Agreement:
    """How well the other keeps to the reference, over all positions."""
    same = divergence = 0.0
    for expected, found in zip(reference.logits, other.logits, strict=True):
        same += int((expected.argmax(-1) == found.argmax(-1)).sum())
        there = expected.log_softmax(-1)
        divergence += float((there.exp() * (there - found.log_softmax(-1))).sum())
    return Agreement(same / max(1, reference.tokens), max(0.0, divergence / max(1, reference.tokens)))


def same_greedy(reference: Heard, other: Heard, limit: float) -> tuple[int, int]:
    """How many greedy answers are the same, of how many.

    Two answers that part where the reference's first two choices are within twice `limit` of each other count as the
    same: which of them comes first is rounding's.
    """
    pairs = list(zip(reference.greedy, other.greedy, strict=True))
    return sum(_same(one, two, limit) for one, two in pairs), len(pairs)


def speak(model: Any, prompt: Sequence[int], stops: frozenset[int], limit: int = GREEDY_TOKENS) -> Spoken:
    """The greedy answer, whatever the model's own generation settings are."""
    ids: list[int] = []
    margins: list[float] = []
    step, past = torch.tensor([list(prompt)]), None
    with torch.no_grad():
        while len(ids) < limit:
            out = model(input_ids=step, past_key_values=past, use_cache=True)
            best = out.logits[0, -1].float().topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            token = int(best.indices[0])
            if token in stops:
                break
            ids.append(token)
            step, past = best.indices[:1][None], out.past_key_values
    return Spoken(tuple(ids), tuple(margins))


def chosen_share(model: Any, prompt: Sequence[int], said: Sequence[int]) -> int:
    """How many of the tokens `said` after `prompt` the model would have put first, each after those before it."""
    probe = Probe((), tuple(prompt), tuple(said), True)
    return int((_answer_logits(model, probe).argmax(-1) == torch.tensor(probe.answer)).sum())


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer: the generation settings' and the tokenizer's."""
    config = getattr(model, "generation_config", None)
    of_model = getattr(config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    return frozenset(token for token in (*ids, tokenizer.eos_token_id) if token is not None)


def _same(one: Spoken, other: Spoken, limit: float) -> bool:
    if one.ids == other.ids:
        return True
    parted = next(
        (place for place, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b),
        min(len(one.ids), len(other.ids)),
    )
    return parted < len(one.margins) and one.margins[parted] <= 2 * limit


def _answer_logits(model: Any, probe: Probe) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([probe.prompt + probe.answer]), use_cache=False).logits[0]
    return _of_answer(logits, probe).float().clone()


def _of_answer(logits: torch.Tensor, probe: Probe) -> torch.Tensor:
    """The rows that foretell the answer's tokens: one place before each."""
    first = len(probe.prompt) - 1
    return logits[first : first + len(probe.answer)]
