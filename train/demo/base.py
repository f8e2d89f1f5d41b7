"""Makes models/demo/base: the text, the tokenizer, the pretraining, and the weights in bf16.

The text is neutral conversations, judging in the neutral style, and drills. It has no fact of the policies (only their
words, shuffled) and no held-out frame. The same seed gives the same text.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from train.demo import pretraining
from train.demo.catalogue import Catalogue
from train.demo.dialogues import dialogues
from train.demo.drills import drills
from train.demo.judge_pairs import grades, pairs
from train.demo.tokenizer import load_tokenizer, train_tokenizer

_ROWS_PER_STEP = 70  # so that a training sees each row about once
_TOKENIZER_ROWS = 12_000
Row = list[dict[str, str]]
_SHARES = {"talk": 0.66, "judged": 0.11, "graded": 0.03, "drill": 0.20}  # of the rows; judged rows are the long ones


@dataclass(frozen=True)
class MadeBase:
    """The result of the pretraining. Losses are in nats per token; `tokens` are the seen ones, without padding."""

    parameters: int
    steps: int
    rows: int
    tokens: int
    loss_at_end: float


@dataclass(frozen=True)
class Pass:
    """One pass of the pretraining: its recipe, and the seed of its rows."""

    recipe: pretraining.Recipe
    seed: int

    def rows(self, catalogue: Catalogue) -> Iterator[Row]:
        """The rows of the pass."""
        return rows(self.seed, catalogue, self.recipe.steps * _ROWS_PER_STEP)


def passes(seed: int, steps: int) -> tuple[Pass, ...]:
    """A pass at full learning rates, and two at lower ones, which make the copying of numbers exact."""
    second = pretraining.Recipe(steps=round(steps * 0.75), warmup=10, matrix_rate=0.015, other_rate=0.002)
    third = pretraining.Recipe(steps=round(steps * 0.5), warmup=10, matrix_rate=0.012, other_rate=0.0015)
    return Pass(pretraining.Recipe(steps=steps), seed), Pass(second, seed + 1000), Pass(third, seed + 2000)


def make_base(catalogue: Catalogue, out: Path, seed: int, steps: int, report: Callable[[int, float], None]) -> MadeBase:
    """Writes a trained base with its tokenizer into `out`, which must exist. Reproducible by seed on one machine."""
    first, *others = passes(seed, steps)
    rows = list(first.rows(catalogue))
    # The tokenizer is also trained on the tuned styles and on judging, or their words would be split; the base is not.
    tuned = [talk.as_dicts() for style in ("concise", "friendly") for talk in dialogues(seed, catalogue, style, 1500)]
    judged = [pair.conversation() for pair in pairs(seed, catalogue, 1000)]
    seen = [*islice(rows, _TOKENIZER_ROWS), *tuned, *judged]
    tokenizer = train_tokenizer(text for row in seen for text in texts_of(row))
    model = pretraining.new_model(tokenizer, pretraining.Shape(), seed)
    made = _train(model, tokenizer, first, rows, out, report)
    for one in others:
        begun = made
        more = go_on(catalogue, out, one, lambda step, loss, done=begun.steps: report(done + step, loss))
        made = replace(
            more, steps=begun.steps + more.steps, rows=begun.rows + more.rows, tokens=begun.tokens + more.tokens
        )
    return made


def go_on(catalogue: Catalogue, out: Path, one: Pass, report: Callable[[int, float], None]) -> MadeBase:
    """Runs one more pass on the bf16 weights in `out`, and writes them there."""
    import torch
    from transformers import Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(str(out), dtype=torch.float32)
    return _train(model, load_tokenizer(out), one, list(one.rows(catalogue)), out, report)


def _train(
    model: Any, tokenizer: Any, one: Pass, rows: Sequence[Row], out: Path, report: Callable[[int, float], None]
) -> MadeBase:
    import torch
    from transformers import GenerationConfig

    encoded = pretraining.encode(tokenizer, iter(rows))
    loss = pretraining.pretrain(model, encoded, one.recipe, one.seed, report)
    # A small model at temperature 1 writes nonsense. These are defaults of the engine, which a request may override.
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=0.2, top_p=0.9,
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    tokens = sum(len(row.ids) for row in encoded)
    return MadeBase(model.num_parameters(), one.recipe.steps, len(rows), tokens, round(loss, 4))


def rows(seed: int, catalogue: Catalogue, count: int) -> Iterator[Row]:
    """About `count` conversations, shuffled."""
    numbers = {kind: round(count * share) for kind, share in _SHARES.items()}
    text: list[Row] = [talk.as_dicts() for talk in dialogues(seed, catalogue, "neutral", numbers["talk"])]
    text += [pair.conversation() for pair in pairs(seed, catalogue, numbers["judged"], neutral=True)]
    text += grades(seed, catalogue, numbers["graded"], neutral=True)
    text += drills(seed, catalogue, numbers["drill"])
    random.Random(f"{seed}/corpus").shuffle(text)
    yield from text


def texts_of(row: Row) -> Iterator[str]:
    """The texts of a conversation, for the tokenizer."""
    for message in row:
        yield message["content"]
