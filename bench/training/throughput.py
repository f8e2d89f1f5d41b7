"""Training throughput: the same rows by `parley train`, and by transformers' Trainer with padded rows."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.support import conversations

MAX_LENGTH = 1_024  # tokens per row on both sides
_RANK, _RATE, _SEED = 16, 1e-3, 0


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
    from train.trainers.batches import SimilarLengthSampler
    from train.trainers.heads import add_learnt_head
    from train.trainers.library_output import quiet
    from train.trainers.losses import measure
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
