"""Makes models/demo/base: tokenizer, pretraining, and weights in bf16. Knows no adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from train.demo import corpus, pretrain
from train.demo.dialogues import dialogues
from train.demo.judged import pairs
from train.demo.tokenizer import train_tokenizer
from train.demo.world import World

ROWS_PER_STEP = 80  # so that a training sees each row about once
_TOKENIZER_ROWS = 12_000


@dataclass(frozen=True)
class MadeBase:
    """What the pretraining came to. Losses in nats per token; `tokens` counts what was seen, without padding."""

    parameters: int
    rows: int
    tokens: int
    loss_at_end: float


def make_base(world: World, out: Path, seed: int, steps: int, report: Callable[[int, float], None]) -> MadeBase:
    """Write a trained base with its tokenizer into `out`, which must exist. One seed, one machine: one result."""
    import torch
    from transformers import GenerationConfig

    rows = list(corpus.rows(seed, world, steps * ROWS_PER_STEP))
    # The tokenizer also sees the tuned styles and real judging, or their words would be cut small; the base does not.
    tuned = [talk.as_dicts() for style in ("concise", "friendly") for talk in dialogues(seed, world, style, 1500)]
    judged = [pair.conversation() for pair in pairs(seed, world, 1000)]
    seen = [*islice(rows, _TOKENIZER_ROWS), *tuned, *judged]
    tokenizer = train_tokenizer(text for row in seen for text in corpus.texts_of(row))
    encoded = pretrain.encode(tokenizer, iter(rows))
    model = pretrain.new_model(tokenizer, pretrain.Shape(), seed)
    loss = pretrain.pretrain(model, encoded, pretrain.Recipe(steps=steps), seed, report)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    halved: Any = model
    halved.to(torch.bfloat16).save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    return MadeBase(model.num_parameters(), len(rows), sum(len(row.ids) for row in encoded), loss)
