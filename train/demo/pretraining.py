"""Pretraining of the base: Qwen2's architecture, batches of similar lengths, Muon for matrices, AdamW for the rest.

Rows are padded on the right, which needs no mask with causal attention. Each step accumulates several batches.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

Row = list[dict[str, str]]


@dataclass(frozen=True)
class Shape:
    """The size of the base. With a vocabulary of 4,096 and tied embeddings it has about 5 million parameters."""

    layers: int = 6
    width: int = 256
    inner: int = 640
    heads: int = 4
    key_value_heads: int = 2
    positions: int = 4096


@dataclass(frozen=True)
class Recipe:
    """How the base is trained. The rates are peak learning rates; `tokens` is per batch, `batches` per step."""

    steps: int = 600
    warmup: int = 40
    tokens: int = 4096
    batches: int = 2
    matrix_rate: float = 0.02
    other_rate: float = 0.003
    prompt_weight: float = 0.2  # the loss weight of tokens that are not the assistant's


@dataclass(frozen=True)
class EncodedRow:
    """A row as token ids, and which of them are the assistant's."""

    ids: Sequence[int]
    own: Sequence[int]


def new_model(tokenizer: "PreTrainedTokenizerFast", shape: Shape, seed: int) -> "Qwen2ForCausalLM":
    """An untrained base in float32."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def encode(tokenizer: "PreTrainedTokenizerFast", rows: Iterator[Row]) -> list[EncodedRow]:
    """The rows, rendered by the chat template."""
    encoded = []
    for row in rows:
        result: Any = tokenizer.apply_chat_template(row, return_dict=True, return_assistant_tokens_mask=True)
        encoded.append(EncodedRow(result["input_ids"], result["assistant_masks"]))
    return encoded


def batches(rows: Sequence[EncodedRow], tokens: int, rng: random.Random) -> list[list[EncodedRow]]:
    """Batches of rows of similar length with `tokens` tokens, padding included, in random order."""
    by_length = sorted(rows, key=lambda row: (len(row.ids), rng.random()))
    grouped: list[list[EncodedRow]] = []
    batch: list[EncodedRow] = []
    for row in by_length:
        if batch and len(row.ids) * (len(batch) + 1) > tokens:
            grouped.append(batch)
            batch = []
        batch.append(row)
    if batch:
        grouped.append(batch)
    rng.shuffle(grouped)
    return grouped


def pretrain(
    model: "Qwen2ForCausalLM",
    rows: Sequence[EncodedRow],
    recipe: Recipe,
    seed: int,
    report: Callable[[int, float], None],
) -> float:
    """Trains in place, calls `report(step, loss)` after each step, and returns the mean loss of the last 50 steps."""
    import torch

    rng = random.Random(f"{seed}/batches")
    queue = batches(rows, recipe.tokens, rng)
    matrices, others = _parameters(model)
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    peaks = [recipe.matrix_rate, recipe.other_rate]
    model.train()
    losses: list[float] = []
    for step in range(recipe.steps):
        share = _schedule(step, recipe)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
        losses.append(
            _step(model, [queue[(step * recipe.batches + at) % len(queue)] for at in range(recipe.batches)], recipe)
        )
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(f"the loss is {losses[-1]} at step {step}")
        report(step + 1, losses[-1])
    model.eval()
    tail = losses[-50:]
    return sum(tail) / len(tail)


def loss_of(model: "Qwen2ForCausalLM", rows: Sequence[EncodedRow], tokens: int = 4096) -> float:
    """The mean loss (nats) of the assistant's tokens in these rows."""
    import torch

    total, count = 0.0, 0.0
    with torch.inference_mode():
        for batch in batches(rows, tokens, random.Random(0)):
            loss, weight = _loss(model, batch, prompt_weight=0.0)
            total, count = total + float(loss), count + weight
    return total / max(count, 1.0)


def _step(model: "Qwen2ForCausalLM", step_batches: Sequence[Sequence[EncodedRow]], recipe: Recipe) -> float:
    weights = [sum(_weight(row, recipe.prompt_weight) for row in batch) for batch in step_batches]
    total = 0.0
    for batch in step_batches:
        loss, _ = _loss(model, batch, recipe.prompt_weight)
        (loss / sum(weights)).backward()
        total += float(loss.detach())
    return total / sum(weights)


def _loss(model: "Qwen2ForCausalLM", batch: Sequence[EncodedRow], prompt_weight: float) -> "tuple[Tensor, float]":
    """The weighted sum of the losses of a batch, and the sum of its weights."""
    import torch
    from torch.nn import functional

    width = max(len(row.ids) for row in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    weights = torch.zeros(len(batch), width)
    for place, row in enumerate(batch):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        weights[place, : len(row.ids)] = torch.tensor([1.0 if own else prompt_weight for own in row.own])
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets, counted = ids[:, 1:], weights[:, 1:]
    wanted = counted > 0
    table = cast(torch.Tensor, model.get_input_embeddings().weight)
    logits = functional.linear(hidden[wanted], table)
    each = functional.cross_entropy(logits, targets[wanted], reduction="none")
    return (each * counted[wanted]).sum(), float(counted.sum())


def _weight(row: EncodedRow, prompt_weight: float) -> float:
    return sum(1.0 if own else prompt_weight for own in row.own[1:])


def _parameters(model: "Qwen2ForCausalLM") -> "tuple[list[Any], list[Any]]":
    """The hidden matrices, for Muon, and all other parameters."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    return matrices, others


def _schedule(step: int, recipe: Recipe) -> float:
    """A linear warm-up, a constant part, and a linear decay over the last half."""
    rise = (step + 1) / recipe.warmup
    fall = (recipe.steps - step) / (recipe.steps * 0.5)
    return min(1.0, rise, fall)
