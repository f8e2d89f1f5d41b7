"""Training: useful tokens a second against a plain Trainer that pads, memory of each way of tuning, and the leak test.

    python -m bench.training [--rounds 3] [--steps 6] [--batch 8] [--threads 2] [--json]

The same rows of ../shared/data/bitext, in the same batches and order, from the same first weights, are learnt in
turns by `parley train` (packed, and padded by length) and by transformers' own Trainer with every row padded to
1,024 tokens. Useful tokens are those of the rows; padding counts for nothing. Both reach the same loss, which is
checked. Memory is each process's own peak, on a larger model of random weights, because the demo's is smaller than
the libraries. Without the data or the demo's base it says so and ends with status 2. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import bitext
from bench.asking import say
from bench.support import conversations

_DEMO = Path(__file__).resolve().parent.parent / "models" / "demo" / "base"
_LENGTH = 1_024  # tokens that both sides allow for a row
_SAME_LOSS = 0.005  # of the loss: what rounding in another order may come to over some steps
_WAYS = ("full", "lora", "qlora")
_RANK, _RATE, _SEED = 16, 1e-3, 0


@dataclass(frozen=True)
class Arm:
    """One arm's round. Useful tokens a second of wall clock and of CPU time; the losses of its steps and after."""

    tokens_per_s: float
    tokens_per_cpu_s: float
    losses: tuple[float, ...]
    loss_after: float


class Clock:
    """Wall and CPU seconds, and tokens, from the end of the first step on: that one also warms up."""

    def __init__(self) -> None:
        self._first: tuple[float, float, int] | None = None
        self._last = (0.0, 0.0, 0)
        self.losses: list[float] = []

    def tick(self, tokens: int, loss: float) -> None:
        """A step is done; `tokens` have been seen in all."""
        self._last = (time.perf_counter(), time.process_time(), tokens)
        self._first = self._first or self._last
        self.losses.append(loss)

    def arm(self, loss_after: float) -> Arm:
        """What it came to."""
        assert self._first
        wall, cpu, tokens = (last - first for last, first in zip(self._last, self._first, strict=True))
        return Arm(tokens / wall, tokens / cpu, tuple(self.losses), loss_after)


def ours(rows: Sequence[dict[str, Any]], base: Path, packing: Any, batch: int, threads: int) -> Arm:
    """One round of `train`, the code of `parley train`."""
    from train import Hyperparameters, train
    from train.run.progress import Event, Step

    clock = Clock()

    def tell(event: Event) -> None:
        if isinstance(event, Step):
            clock.tick(event.tokens, event.loss)

    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = train(
            rows, base=base, out=Path(folder) / "run", validation=0, progress=tell, threads=threads,
            hyperparameters=Hyperparameters(
                epochs=1, rank=_RANK, alpha=32, learning_rate=_RATE, batch_size=batch, max_length=_LENGTH,
                schedule="constant", warmup=0, packing=packing, adapter_dtype="float32", seed=_SEED,
            ),
        )  # fmt: skip
    return clock.arm(result.loss_after)


def padded(rows: Sequence[dict[str, Any]], base: Path, batch: int, threads: int) -> Arm:
    """One round of transformers' Trainer: the same adapter, rate and batches, each row padded to 1,024 tokens."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from train.trainers.bases import find_base, load_model
    from train.trainers.batches import SimilarLengthSampler
    from train.trainers.heads import add_learnt_head
    from train.trainers.library_output import quiet
    from train.trainers.losses import measure
    from train.trainers.tokens import IGNORED

    found = tokens_of(rows, base)
    lengths = [row.tokens for row in found]
    order = list(SimilarLengthSampler(lengths, batch, _SEED))  # the first epoch's, which is all that is learnt
    clock = Clock()

    def collate(some: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        more = [_LENGTH - len(row["input_ids"]) for row in some]
        return {
            "input_ids": torch.tensor([row["input_ids"] + [0] * n for row, n in zip(some, more, strict=True)]),
            "labels": torch.tensor([row["labels"] + [IGNORED] * n for row, n in zip(some, more, strict=True)]),
            "attention_mask": torch.tensor([[1] * (_LENGTH - n) + [0] * n for n in more]),
        }

    class Ordered(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SimilarLengthSampler(lengths, batch, _SEED)

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                clock.tick(sum(lengths[place] for place in order[: state.global_step * batch]), logs["loss"])

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
        data: Any = [{"input_ids": row.input_ids, "labels": row.labels} for row in found]
        trainer = Ordered(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[Watch()])
        trainer.train()
        add_learnt_head(plain)
        after = measure(model, found, 0).loss
    return clock.arm(after)


def tokens_of(rows: Sequence[dict[str, Any]], base: Path) -> Any:
    """The rows as ids and labels, as the training makes them."""
    from train.data.checks import check
    from train.trainers.bases import find_base, load_tokenizer
    from train.trainers.tokens import tokenise

    return tokenise(check(rows, provider="local").examples, load_tokenizer(find_base(base)), _LENGTH).rows


def fitting(number: int, base: Path) -> list[dict[str, Any]]:
    """So many conversations of the data, evenly from all of it, none longer than both sides allow."""
    requests = bitext.read_requests()
    every = max(1, len(requests) // (number + number // 4))
    rows = conversations(requests[::every])
    fits = {row.line for row in tokens_of(rows, base)}
    return [row for line, row in enumerate(rows, 1) if line in fits][:number]


@dataclass(frozen=True)
class Leak:
    """In float32, over rows in one packed batch: how far a row's logits move when its neighbours say something else
    (`neighbours`), and how far they are from those of the row alone (`alone`, and as a share of the largest logit).
    """

    neighbours: float
    alone: float
    alone_relative: float
    rows: int


def leak(rows: Sequence[dict[str, Any]], base: Path, threads: int) -> Leak:
    """Packs rows, replaces every other one by other tokens of its length, and compares."""
    import torch

    from train.trainers.bases import find_base, load_model
    from train.trainers.library_output import quiet
    from train.trainers.packing import PackedCollator, attend_by_row

    ids = [row.input_ids for row in tokens_of(rows, base)]
    with quiet(None, threads), torch.no_grad():
        model = load_model(find_base(base), torch.float32, "cpu").eval()
        words = model.config.vocab_size
        changed = [one if place % 2 else [(token + 101) % words for token in one] for place, one in enumerate(ids)]
        alone = [model(input_ids=torch.tensor([one]), use_cache=False).logits[0] for one in ids]
        attend_by_row(model)

        def packed(some: Sequence[list[int]]) -> Any:
            batch = PackedCollator()([{"input_ids": one, "labels": one} for one in some])
            del batch["labels"], batch["tokens"]
            return model(**batch, use_cache=False).logits[0].split([len(one) for one in some])

        first, second = packed(ids), packed(changed)
    kept = range(1, len(ids), 2)
    away = max(float((first[place] - alone[place]).abs().max()) for place in range(len(ids)))
    largest = max(float(one.abs().max()) for one in alone)
    moved = max(float((first[place] - second[place]).abs().max()) for place in kept)
    return Leak(moved, away, away / largest, len(ids))


def memory(tune: Any, base: Path) -> int:
    """The peak of this process over three steps of one way of tuning, in bytes."""
    from train import Hyperparameters, train

    rows = fitting(6, base)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = train(
            rows, base=base, out=Path(folder) / "run", validation=0, threads=1,
            hyperparameters=Hyperparameters(epochs=1, batch_size=2, max_length=_LENGTH, tune=tune),
        )  # fmt: skip
    return int(result.peak_memory_bytes or 0)


def larger(folder: Path) -> int:
    """Writes a model of random weights with the demo's tokenizer, large enough for memory to tell; its parameters."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(str(_DEMO))
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


def in_a_process(*words: str) -> Any:
    """What this benchmark prints when it is asked for one part only: each part has a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.training", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything in order; returns the JSON object."""
    base = Path(options.base)
    number = options.batch * options.steps
    words = ["--steps", str(options.steps), "--batch", str(options.batch), "--threads", str(options.threads)]
    rounds: dict[str, list[Arm]] = {"packed": [], "length": [], "padded": []}
    for turn in range(options.rounds):
        for name, arms in rounds.items():
            say(f"round {turn + 1} of {options.rounds}: {name} …")
            told = in_a_process("--part", name, "--base", str(base), *words)
            arms.append(Arm(**told | {"losses": tuple(told["losses"])}))
            say(f"    {told['tokens_per_s']:,.0f} useful tokens/s, {told['tokens_per_cpu_s']:,.0f} by CPU time")
    rows = tokens_of(fitting(number, base), base)
    real = sum(row.tokens for row in rows)
    say("leak …")
    leaked = in_a_process("--part", "leak", "--base", str(base), *words)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        parameters = larger(Path(folder))
        peaks = {}
        for way in _WAYS:
            say(f"memory: {way} …")
            peaks[way] = in_a_process("--part", way, "--base", folder)["peak_memory_bytes"]
            say(f"    {peaks[way] / 2**20:,.0f} MiB")
    possible = _LENGTH * len(rows) / real
    times = _times(rounds, "tokens_per_s")
    of_cpu = _times(rounds, "tokens_per_cpu_s")
    apart = _apart(rounds["packed"][0].loss_after, rounds["padded"][0].loss_after)
    return {
        "benchmark": "training",
        "useful_tokens_per_s": _median(rounds["packed"], "tokens_per_s"),
        "length_useful_tokens_per_s": _median(rounds["length"], "tokens_per_s"),
        "padded_useful_tokens_per_s": _median(rounds["padded"], "tokens_per_s"),
        "times_padded": round(times, 3),
        "times_padded_cpu": round(of_cpu, 3),
        "times_padded_possible": round(possible, 3),
        "share_of_possible": round(times / possible, 3),
        "loss_after": {name: round(arms[0].loss_after, 5) for name, arms in rounds.items()},
        "loss_apart": apart,
        "same_loss": apart <= _SAME_LOSS,
        "largest_step_apart": max(
            _apart(one, other)
            for one, other in zip(rounds["packed"][0].losses, rounds["padded"][0].losses, strict=True)
        ),
        "leak": leaked["neighbours"],
        "packed_against_alone": leaked["alone"],
        "packed_against_alone_relative": leaked["alone_relative"],
        "peak_memory_bytes": peaks,
        "memory_model_parameters": parameters,
        "rows": len(rows),
        "tokens_a_row": round(real / len(rows), 1),
        "batch": options.batch,
        "steps": options.steps,
        "rounds": options.rounds,
        "threads": options.threads,
        "cores": len(os.sched_getaffinity(0)),
    }


def _median(arms: Sequence[Arm], name: str) -> float:
    return round(statistics.median(getattr(arm, name) for arm in arms), 1)


def _times(rounds: dict[str, list[Arm]], name: str) -> float:
    """The median over the rounds of packed against padded, each round's two side by side."""
    pairs = zip(rounds["packed"], rounds["padded"], strict=True)
    return statistics.median(getattr(one, name) / getattr(other, name) for one, other in pairs)


def _apart(one: float, other: float) -> float:
    """How far two losses are apart, as a share of the second."""
    return round(abs(one - other) / abs(other), 6)


def part(options: argparse.Namespace) -> dict[str, Any]:
    """One part alone, as `in_a_process` asks for it."""
    base = Path(options.base)
    if options.part in _WAYS:
        return {"peak_memory_bytes": memory(options.part, base)}
    if options.part == "leak":
        return vars(leak(fitting(16, base), base, options.threads))
    rows = fitting(options.batch * options.steps, base)
    if options.part == "padded":
        return vars(padded(rows, base, options.batch, options.threads))
    return vars(ours(rows, base, options.part, options.batch, options.threads))


def show(result: dict[str, Any]) -> None:
    """The table."""
    print(f"{result['rows']} rows of {result['tokens_a_row']} tokens, {result['steps']} steps of {result['batch']}\n")
    print(f"{'':<26}{'useful tokens/s':>16}{'loss after':>12}")
    for name, key in (
        ("parley, packed", "useful_tokens_per_s"),
        ("parley, by length", "length_useful_tokens_per_s"),
        (f"Trainer, padded to {_LENGTH:,}", "padded_useful_tokens_per_s"),
    ):
        loss = result["loss_after"][{"use": "packed", "len": "length", "pad": "padded"}[key[:3]]]
        print(f"{name:<26}{result[key]:>16,.0f}{loss:>12.4f}")
    print(
        f"\n{result['times_padded']:.2f} times padded ({result['times_padded_cpu']:.2f} by CPU time); "
        f"{result['times_padded_possible']:.2f} is what leaving out the padding can give"
    )
    print(f"losses {result['loss_apart']:.3%} apart, {_SAME_LOSS:.1%} allowed")
    print(
        f"leak: {result['leak']:.1e} when neighbours change; {result['packed_against_alone']:.1e} from the row alone "
        f"({result['packed_against_alone_relative']:.1e} of the largest logit)"
    )
    peaks = ", ".join(f"{way} {peak / 2**20:,.0f} MiB" for way, peak in result["peak_memory_bytes"].items())
    print(f"peak memory, {result['memory_model_parameters'] / 1e6:.0f} million parameters: {peaks}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 where data or base are not there, 1 where the losses differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of each arm")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps a round; the first is not timed")
    parser.add_argument("--batch", type=int, default=8, help="rows a step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--base", default=str(_DEMO), help="a model's folder; the demo's base without it")
    parser.add_argument("--part", choices=["packed", "length", "padded", "leak", *_WAYS], help="one part alone")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    if not bitext.FILE.is_file():
        print(f"bench.training: its data is not here ({bitext.FILE.name} in ../shared/data/bitext).", file=sys.stderr)
        return 2
    if not (Path(options.base) / "config.json").is_file():
        print("bench.training: the demo's base is not built yet: `make demo-model`.", file=sys.stderr)
        return 2
    if options.part:
        print(json.dumps(part(options)))
        return 0
    result = run(options)
    show(result)
    if options.json:
        print(json.dumps(result))
    return 0 if result["same_loss"] else 1


if __name__ == "__main__":
    sys.exit(main())
