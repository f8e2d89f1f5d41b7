"""Makes models/demo/base: tokenizer, pretraining, and weights in bf16. Knows no adapter."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from train.demo import corpus, pretrain
from train.demo.dialogues import dialogues
from train.demo.judged import pairs
from train.demo.tokenizer import load_tokenizer, train_tokenizer
from train.demo.world import World

_ROWS_PER_STEP = 80  # so that a training sees each row about once
_TOKENIZER_ROWS = 12_000
_SECOND = 0.75  # the second pass's steps, of the first's


@dataclass(frozen=True)
class MadeBase:
    """What the pretraining came to. Losses in nats per token; `tokens` counts what was seen, without padding."""

    parameters: int
    steps: int
    rows: int
    tokens: int
    loss_at_end: float


@dataclass(frozen=True)
class Pass:
    """One pass of the pretraining: how it trains, and on what. The rows of the two passes are different."""

    recipe: pretrain.Recipe
    seed: int

    def rows(self, world: World) -> Iterator[corpus.Row]:
        """The texts of the pass."""
        return corpus.rows(self.seed, world, self.recipe.steps * _ROWS_PER_STEP)


def passes(seed: int, steps: int) -> tuple[Pass, Pass]:
    """A pass at full rates, and a second, gentler one, which makes the copying of numbers exact."""
    gentle = pretrain.Recipe(steps=round(steps * _SECOND), warmup=10, matrix_rate=0.015, other_rate=0.002)
    return Pass(pretrain.Recipe(steps=steps), seed), Pass(gentle, seed + 1000)


def make_base(world: World, out: Path, seed: int, steps: int, report: Callable[[int, float], None]) -> MadeBase:
    """Write a trained base with its tokenizer into `out`, which must exist. One seed, one machine: one result."""
    first, second = passes(seed, steps)
    rows = list(first.rows(world))
    # The tokenizer also sees the tuned styles and real judging, or their words would be cut small; the base does not.
    tuned = [talk.as_dicts() for style in ("concise", "friendly") for talk in dialogues(seed, world, style, 1500)]
    judged = [pair.conversation() for pair in pairs(seed, world, 1000)]
    seen = [*islice(rows, _TOKENIZER_ROWS), *tuned, *judged]
    tokenizer = train_tokenizer(text for row in seen for text in corpus.texts_of(row))
    model = pretrain.new_model(tokenizer, pretrain.Shape(), seed)
    _train(model, tokenizer, rows, first, out, report)
    return second_pass(world, out, second, lambda step, loss: report(steps + step, loss), first)


def second_pass(world: World, out: Path, second: Pass, report: Callable[[int, float], None], first: Pass) -> MadeBase:
    """Go on with the bf16 weights that the first pass wrote into `out`, and write them again."""
    import torch
    from transformers import Qwen2ForCausalLM

    tokenizer = load_tokenizer(out)
    model = Qwen2ForCausalLM.from_pretrained(str(out), dtype=torch.float32)
    rows = list(second.rows(world))
    loss = _train(model, tokenizer, rows, second, out, report)
    before = list(first.rows(world))
    return MadeBase(
        parameters=model.num_parameters(),
        steps=first.recipe.steps + second.recipe.steps,
        rows=len(before) + len(rows),
        tokens=sum(len(row.ids) for row in pretrain.encode(tokenizer, iter([*before, *rows]))),
        loss_at_end=round(loss, 4),
    )


def _train(
    model: Any, tokenizer: Any, rows: Sequence[corpus.Row], one: Pass, out: Path, report: Callable[[int, float], None]
) -> float:
    import torch
    from transformers import GenerationConfig

    loss = pretrain.pretrain(model, pretrain.encode(tokenizer, iter(rows)), one.recipe, one.seed, report)
    # A small model at temperature 1 writes nonsense. Engines take these as defaults; a request may say otherwise.
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=0.2, top_p=0.9,
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    return loss
