"""Parity of two models on probes: logits in float32, top token and divergence in another dtype, greedy text.

The reference is always float32 base + adapter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from train.publication.probes import FEWEST, GREEDY_TOKENS, MOST, Probe, ProbeSet, built_in, tokenise_probes
from train.trainers.templates import turn_end

LEAST_AGREEMENT = 0.98
LIMIT = 1e-4  # the largest allowed difference of a logit in float32, unless rounding alone exceeds it
_ROUNDING = 5  # times the measured effect of rounding, if that is larger
_ROUNDED_PROBES = 4
_HELD_NUMBERS = 2**27  # float32 reference logits in memory: 512 MiB
_SMALL = 50_000_000
_LARGE = 500_000_000  # parameters from which every probe costs seconds on a CPU


@dataclass(frozen=True)
class GreedyAnswer:
    """A greedy answer: its token ids without the end-of-turn token, and the margin of each step.

    A margin is the gap between the first and the second logit; the step that ended the answer has one too.
    """

    ids: tuple[int, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class ProbeOutputs:
    """A model's outputs on probes: for each, float32 logits (answer tokens × vocabulary) that predict the answer's
    tokens; and greedy answers to the first probes."""

    logits: tuple[torch.Tensor, ...]
    greedy: tuple[GreedyAnswer, ...]

    @property
    def tokens(self) -> int:
        """The number of positions in all."""
        return sum(len(rows) for rows in self.logits)


@dataclass(frozen=True)
class Agreement:
    """Teacher-forced: the share of positions with the same top token (or one whose logit is the same in the other's
    dtype), and the mean KL divergence in nats per token from
    the reference's distribution to the other's (Kullback and Leibler, 1951)."""

    top1: float
    kl: float


def reference_outputs(
    model: Any, tokenizer: Any, probes: ProbeSet, context: int
) -> tuple[tuple[Probe, ...], ProbeOutputs]:
    """Probes in the reference model's tokens, as many as its size allows, and its outputs on them.

    A probe without an answer gets the model's greedy answer, on which others are compared.

    Args:
        context: the model's context in tokens.
    """
    parameters = model.num_parameters()
    if parameters < _SMALL:
        # Threads that compete with engines for cores took ten times as long as one thread.
        torch.set_num_threads(1)
    positions = min(4096, _HELD_NUMBERS // model.get_input_embeddings().weight.shape[0])
    number = FEWEST if parameters > _LARGE else MOST if positions >= MOST * GREEDY_TOKENS else MOST // 2
    options = {"number": number, "answer_tokens": max(8, min(64, positions // number)), "context": context}
    ready = tokenise_probes(probes, tokenizer, **options) or tokenise_probes(built_in(), tokenizer, **options)
    stops = stop_tokens(model, tokenizer)
    greedy = tuple(generate(model, probe.prompt, stops) for probe in ready[:FEWEST])
    # Only built-in questions lack answers, and all of them are among the first probes.
    answers = [probe.answer or answer.ids or tuple(stops)[:1] for probe, answer in zip(ready, greedy, strict=False)]
    first = [replace(probe, answer=answer) for probe, answer in zip(ready, answers, strict=False)]
    ready = tuple(probe for probe in (*first, *ready[len(first) :]) if probe.answer)
    return ready, ProbeOutputs(tuple(_answer_logits(model, probe) for probe in ready), greedy)


def outputs(model: Any, tokenizer: Any, probes: Sequence[Probe], *, greedy: int) -> ProbeOutputs:
    """The model's logits on every probe's answer, and its greedy answers to the first `greedy` probes."""
    stops = stop_tokens(model, tokenizer)
    return ProbeOutputs(
        tuple(_answer_logits(model, probe) for probe in probes),
        tuple(generate(model, probe.prompt, stops) for probe in probes[:greedy]),
    )


def largest_difference(reference: ProbeOutputs, other: ProbeOutputs) -> float:
    """The largest difference of any logit; NaN if either has a NaN."""
    gaps = [(a - b).abs().max() for a, b in zip(reference.logits, other.logits, strict=True)]
    return float(torch.stack(gaps).max())


def rounding_limit(model: Any, probes: Sequence[Probe], reference: ProbeOutputs) -> float:
    """The allowed difference of logits of the same weights in float32: 1e-4, or more if rounding alone exceeds it.

    Some models amplify a change in float32's last digit, and their merged logits differ by as much without a fault in
    the merge. So each input is changed once by the last digit, and five times the effect is allowed.
    """
    generator = torch.Generator().manual_seed(0)
    moved = 0.0
    for probe, expected in zip(probes[:_ROUNDED_PROBES], reference.logits, strict=False):
        ids = torch.tensor([probe.prompt + probe.answer])
        with torch.no_grad():
            inputs = model.get_input_embeddings()(ids)
            signs = torch.randint(0, 2, inputs.shape, generator=generator) * 2 - 1
            inputs = inputs * (1 + signs * torch.finfo(torch.float32).eps)
            logits = model(inputs_embeds=inputs, use_cache=False).logits[0].float()
        moved = max(moved, float((_of_answer(logits, probe) - expected).abs().max()))
    return max(LIMIT, _ROUNDING * moved)


def agreement(reference: ProbeOutputs, other: ProbeOutputs, dtype: torch.dtype = torch.float32) -> Agreement:
    """The agreement of another model with the reference, over all positions.

    Args:
        dtype: in which the other model computes.
    """
    same = divergence = 0.0
    for expected, actual in zip(reference.logits, other.logits, strict=True):
        same += int(_ranked_first(expected, actual.argmax(-1), dtype).sum())
        log_p = expected.log_softmax(-1)
        divergence += float((log_p.exp() * (log_p - actual.log_softmax(-1))).sum())
    return Agreement(same / max(1, reference.tokens), max(0.0, divergence / max(1, reference.tokens)))


def same_greedy(reference: ProbeOutputs, other: ProbeOutputs, limit: float) -> tuple[int, int]:
    """The number of equal greedy answers, and the number of answers.

    Answers that diverge where the reference's first two logits are within twice `limit` count as equal, because
    rounding decides between them.
    """
    pairs = list(zip(reference.greedy, other.greedy, strict=True))
    return sum(_same(expected, actual, limit) for expected, actual in pairs), len(pairs)


def generate(model: Any, prompt: Sequence[int], stops: frozenset[int], limit: int = GREEDY_TOKENS) -> GreedyAnswer:
    """The greedy answer, independent of the model's generation settings."""
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
    return GreedyAnswer(tuple(ids), tuple(margins))


def count_top_tokens(model: Any, prompt: Sequence[int], answer: Sequence[int], dtype: torch.dtype) -> int:
    """The number of tokens of an answer to `prompt` that the model ranks first, each given those before it.

    Args:
        dtype: in which the answer was generated.
    """
    probe = Probe((), tuple(prompt), tuple(answer), True)
    return int(_ranked_first(_answer_logits(model, probe), torch.tensor(probe.answer), dtype).sum())


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer, from the generation settings, the tokenizer and its chat template."""
    config = getattr(model, "generation_config", None)
    of_model = getattr(config, "eos_token_id", None)
    ids = of_model if isinstance(of_model, list) else [of_model]
    ends = (*ids, tokenizer.eos_token_id, turn_end(tokenizer).token)
    return frozenset(token for token in ends if token is not None)


def _ranked_first(logits: torch.Tensor, tokens: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Whether each token has the largest logit, or one that `dtype` cannot tell from it: rounding decides there."""
    first = logits.max(-1).values
    chosen = logits.gather(-1, tokens[:, None])[:, 0]
    return first - chosen <= torch.finfo(dtype).eps * first.abs()


def _same(expected: GreedyAnswer, actual: GreedyAnswer, limit: float) -> bool:
    if expected.ids == actual.ids:
        return True
    pairs = enumerate(zip(expected.ids, actual.ids, strict=False))
    shorter = min(len(expected.ids), len(actual.ids))
    diverged = next((position for position, (left, right) in pairs if left != right), shorter)
    return diverged < len(expected.margins) and expected.margins[diverged] <= 2 * limit


def _answer_logits(model: Any, probe: Probe) -> torch.Tensor:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([probe.prompt + probe.answer]), use_cache=False).logits[0]
    return _of_answer(logits, probe).float().clone()


def _of_answer(logits: torch.Tensor, probe: Probe) -> torch.Tensor:
    """The rows that predict the answer's tokens, each one position earlier."""
    first = len(probe.prompt) - 1
    return logits[first : first + len(probe.answer)]
