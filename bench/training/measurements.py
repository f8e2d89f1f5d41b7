"""The parts of `bench.training`: throughput beside a padding Trainer, the leak test of packed rows, and peak memory."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.support import conversations
from models.demo import FOLDER

MAX_LENGTH = 1_024  # tokens per row on both sides
_RANK, _RATE, _SEED = 16, 1e-3, 0
DEMO_BASE = FOLDER / "base"
TUNE_MODES = ("full", "lora", "qlora")


@dataclass(frozen=True)
class RunResult:
    """One run: useful tokens per second of wall clock and of CPU time, the loss of each step and at the end."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    losses: tuple[float, ...]
    loss_after: float


class StepClock:
    """Measures time and tokens from the end of the first step, which is the warm-up."""

    def __init__(self) -> None:
        self._first: tuple[float, float, int] | None = None
        self._last = (0.0, 0.0, 0)
        self.losses: list[float] = []

    def tick(self, tokens: int, loss: float) -> None:
        """Records a finished step; `tokens` is the total so far."""
        self._last = (time.perf_counter(), time.process_time(), tokens)
        self._first = self._first or self._last
        self.losses.append(loss)

    def result(self, loss_after: float) -> RunResult:
        """The throughput between the first and the last step."""
        assert self._first
        wall, cpu, tokens = (last - first for last, first in zip(self._last, self._first, strict=True))
        return RunResult(tokens / wall, tokens / cpu, tuple(self.losses), loss_after)


def train_parley(rows: Sequence[dict[str, Any]], base: Path, packing: Any, batch: int, threads: int) -> RunResult:
    """One run of `train`, the code of `parley train`."""
    from train import Hyperparameters, train
    from train.run.progress import Event, Step

    clock = StepClock()

    def on_event(event: Event) -> None:
        if isinstance(event, Step):
            clock.tick(event.tokens, event.loss)

    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = train(
            rows, base=base, out=Path(folder) / "run", validation=0, progress=on_event, threads=threads,
            hyperparameters=Hyperparameters(
                epochs=1, rank=_RANK, alpha=32, learning_rate=_RATE, batch_size=batch, max_length=MAX_LENGTH,
                schedule="constant", warmup=0, packing=packing, adapter_dtype="float32", seed=_SEED,
            ),
        )  # fmt: skip
    return clock.result(result.loss_after)


def train_padded(rows: Sequence[dict[str, Any]], base: Path, batch: int, threads: int) -> RunResult:
    """One run of transformers' Trainer: the same adapter, rate and batches, each row padded to 1,024 tokens."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from train.trainers.bases import find_base, load_model
    from train.trainers.losses import add_learnt_head, measure
    from train.trainers.packing import SimilarLengthSampler
    from train.trainers.runtime import quiet
    from train.trainers.tokens import IGNORED

    tokenised = tokenise_rows(rows, base)
    lengths = [row.tokens for row in tokenised]
    order = list(SimilarLengthSampler(lengths, batch, _SEED))  # of the first epoch, the only one
    clock = StepClock()

    def collate(batch_rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        padding = [MAX_LENGTH - len(row["input_ids"]) for row in batch_rows]
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * n for row, n in zip(batch_rows, padding, strict=True)]),
            "labels": torch.tensor([row["labels"] + [IGNORED] * n for row, n in zip(batch_rows, padding, strict=True)]),
            "attention_mask": torch.tensor([[1] * (MAX_LENGTH - n) + [0] * n for n in padding]),
        }

    class OrderedTrainer(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SimilarLengthSampler(lengths, batch, _SEED)

    class LossCallback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                clock.tick(sum(lengths[index] for index in order[: state.global_step * batch]), logs["loss"])

    with quiet(None, threads), tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        plain = load_model(find_base(base), torch.float32, "cpu")
        set_seed(_SEED)
        adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=_RANK, lora_alpha=32)
        model = get_peft_model(plain, adapter)
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=batch, max_steps=len(rows) // batch, learning_rate=_RATE,
            lr_scheduler_type="constant", optim="adamw_torch", use_cpu=True, logging_steps=1, save_strategy="no",
            report_to="none", disable_tqdm=True, seed=_SEED, remove_unused_columns=False,
        )  # fmt: skip
        data: Any = [{"input_ids": row.input_ids, "labels": row.labels} for row in tokenised]
        trainer = OrderedTrainer(
            model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[LossCallback()]
        )
        trainer.train()
        add_learnt_head(plain)
        after = measure(model, tokenised, 0).loss
    return clock.result(after)


def tokenise_rows(rows: Sequence[dict[str, Any]], base: Path) -> Any:
    """The rows as token ids and labels, as `parley train` makes them."""
    from train.data.checks import check
    from train.trainers.bases import find_base, load_tokenizer
    from train.trainers.tokens import tokenise

    return tokenise(check(rows, provider="local").examples, load_tokenizer(find_base(base)), MAX_LENGTH).rows


def select_rows(number: int, base: Path) -> list[dict[str, Any]]:
    """Selects `number` conversations of at most MAX_LENGTH tokens, evenly over the data."""
    requests = bitext.read_requests()
    every = max(1, len(requests) // (number + number // 4))
    rows = conversations(requests[::every])
    fits = {row.line for row in tokenise_rows(rows, base)}
    return [row for line, row in enumerate(rows, 1) if line in fits][:number]


@dataclass(frozen=True)
class Leak:
    """Largest differences of a row's logits in one packed batch, in float32.

    `neighbours`: after the other rows' tokens change. `alone`: from the row without a batch; `alone_relative` is that
    divided by the largest logit.
    """

    neighbours: float
    alone: float
    alone_relative: float
    rows: int


def measure_leak(rows: Sequence[dict[str, Any]], base: Path, threads: int) -> Leak:
    """Packs the rows, replaces every other row by different tokens of equal length, and compares the logits."""
    import torch

    from train.trainers.bases import find_base, load_model
    from train.trainers.packing import PackedCollator, attend_by_row
    from train.trainers.runtime import quiet

    ids = [row.input_ids for row in tokenise_rows(rows, base)]
    with quiet(None, threads), torch.no_grad():
        model = load_model(find_base(base), torch.float32, "cpu").eval()
        size = model.config.vocab_size
        changed = [row if index % 2 else [(token + 101) % size for token in row] for index, row in enumerate(ids)]
        alone = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in ids]
        attend_by_row(model)

        def packed_logits(rows: Sequence[list[int]]) -> Any:
            batch = PackedCollator()([{"input_ids": row, "labels": row} for row in rows])
            del batch["labels"], batch["tokens"]
            return model(**batch, use_cache=False).logits[0].split([len(row) for row in rows])

        first, second = packed_logits(ids), packed_logits(changed)
    apart = max(float((packed - single).abs().max()) for packed, single in zip(first, alone, strict=True))
    largest = max(float(logits.abs().max()) for logits in alone)
    moved = max(float((first[index] - second[index]).abs().max()) for index in range(1, len(ids), 2))
    return Leak(moved, apart, apart / largest, len(ids))


def measure_peak_memory(tune: Any, base: Path) -> int:
    """This process's peak memory in bytes over three steps of one tuning mode."""
    from train import Hyperparameters, train

    rows = select_rows(6, base)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = train(
            rows, base=base, out=Path(folder) / "run", validation=0, threads=1,
            hyperparameters=Hyperparameters(epochs=1, batch_size=2, max_length=MAX_LENGTH, tune=tune),
        )  # fmt: skip
    return int(result.peak_memory_bytes or 0)


def write_larger_model(folder: Path) -> int:
    """Writes a model with random weights and the demo's tokenizer; returns its number of parameters."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(str(DEMO_BASE))
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2_048, num_hidden_layers=16,
        num_attention_heads=12, num_key_value_heads=4, max_position_embeddings=2_048, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(_SEED)
    model: Any = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return model.num_parameters()
