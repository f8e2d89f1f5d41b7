"""Training: useful tokens per second compared with a padding Trainer, peak memory per tuning mode, and the leak test.

    python -m bench.training [--rounds 3] [--steps 6] [--batch 8] [--threads 2] [--json]

`parley train` (packed, and batched by length) and transformers' own Trainer (each row padded to 1,024 tokens) train in
turns on the same rows of ../shared/data/bitext, in the same batches and order, from the same weights. Useful tokens
exclude padding. Both must reach the same loss. Memory is each process's own peak, on a larger model with random
weights, because the demo's is smaller than the libraries. Exit status 2 without the data or the demo's base. The last
line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.progress import print_progress
from bench.training.measurements import (
    DEMO_BASE,
    MAX_LENGTH,
    TUNE_MODES,
    RunResult,
    measure_leak,
    measure_peak_memory,
    select_rows,
    tokenise_rows,
    train_padded,
    train_parley,
    write_larger_model,
)

_SAME_LOSS = 0.005  # relative; rounding in another order adds up to this over some steps


def run_part_in_process(*arguments: str) -> Any:
    """Runs one part of this benchmark in a process of its own; returns its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.training", *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all parts; returns the JSON object."""
    base = Path(options.base)
    number = options.batch * options.steps
    common = ["--steps", str(options.steps), "--batch", str(options.batch), "--threads", str(options.threads)]
    rounds: dict[str, list[RunResult]] = {"packed": [], "length": [], "padded": []}
    for turn in range(options.rounds):
        for name, runs in rounds.items():
            print_progress(f"round {turn + 1} of {options.rounds}: {name} …")
            result = run_part_in_process("--part", name, "--base", str(base), *common)
            runs.append(RunResult(**result | {"losses": tuple(result["losses"])}))
            print_progress(
                f"    {result['tokens_per_s']:,.0f} useful tokens/s, {result['tokens_per_cpu_s']:,.0f} by CPU time"
            )
    rows = tokenise_rows(select_rows(number, base), base)
    real = sum(row.tokens for row in rows)
    print_progress("leak …")
    leaked = run_part_in_process("--part", "leak", "--base", str(base), *common)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        parameters = write_larger_model(Path(folder))
        peaks = {}
        for mode in TUNE_MODES:
            print_progress(f"memory: {mode} …")
            peaks[mode] = run_part_in_process("--part", mode, "--base", folder)["peak_memory_bytes"]
            print_progress(f"    {peaks[mode] / 2**20:,.0f} MiB")
    possible = MAX_LENGTH * len(rows) / real
    times = _times(rounds, "tokens_per_s")
    times_cpu = _times(rounds, "tokens_per_cpu_s")
    apart = _apart(rounds["packed"][0].loss_after, rounds["padded"][0].loss_after)
    return {
        "benchmark": "training",
        "useful_tokens_per_s": _median(rounds["packed"], "tokens_per_s"),
        "length_useful_tokens_per_s": _median(rounds["length"], "tokens_per_s"),
        "padded_useful_tokens_per_s": _median(rounds["padded"], "tokens_per_s"),
        "times_padded": round(times, 3),
        "times_padded_cpu": round(times_cpu, 3),
        "times_padded_possible": round(possible, 3),
        "share_of_possible": round(times / possible, 3),
        "loss_after": {name: round(runs[0].loss_after, 5) for name, runs in rounds.items()},
        "loss_apart": apart,
        "same_loss": apart <= _SAME_LOSS,
        "largest_step_apart": max(
            _apart(packed, padded)
            for packed, padded in zip(rounds["packed"][0].losses, rounds["padded"][0].losses, strict=True)
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


def _median(runs: Sequence[RunResult], name: str) -> float:
    return round(statistics.median(getattr(run, name) for run in runs), 1)


def _times(rounds: dict[str, list[RunResult]], name: str) -> float:
    """The median ratio of packed to padded, each pair from the same round."""
    pairs = zip(rounds["packed"], rounds["padded"], strict=True)
    return statistics.median(getattr(packed, name) / getattr(padded, name) for packed, padded in pairs)


def _apart(loss: float, reference: float) -> float:
    """The difference of two losses, relative to the second."""
    return round(abs(loss - reference) / abs(reference), 6)


def run_part(options: argparse.Namespace) -> dict[str, Any]:
    """Runs one part, as `run_part_in_process` requests it."""
    base = Path(options.base)
    if options.part in TUNE_MODES:
        return {"peak_memory_bytes": measure_peak_memory(options.part, base)}
    if options.part == "leak":
        return vars(measure_leak(select_rows(16, base), base, options.threads))
    rows = select_rows(options.batch * options.steps, base)
    if options.part == "padded":
        return vars(train_padded(rows, base, options.batch, options.threads))
    return vars(train_parley(rows, base, options.part, options.batch, options.threads))


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    print(f"{result['rows']} rows of {result['tokens_a_row']} tokens, {result['steps']} steps of {result['batch']}\n")
    print(f"{'':<26}{'useful tokens/s':>16}{'loss after':>12}")
    for name, key in (
        ("parley, packed", "useful_tokens_per_s"),
        ("parley, by length", "length_useful_tokens_per_s"),
        (f"Trainer, padded to {MAX_LENGTH:,}", "padded_useful_tokens_per_s"),
    ):
        loss = result["loss_after"][{"use": "packed", "len": "length", "pad": "padded"}[key[:3]]]
        print(f"{name:<26}{result[key]:>16,.0f}{loss:>12.4f}")
    print(
        f"\n{result['times_padded']:.2f} times padded ({result['times_padded_cpu']:.2f} by CPU time); "
        f"{result['times_padded_possible']:.2f} is the most that removing the padding can give"
    )
    print(f"losses {result['loss_apart']:.3%} apart, {_SAME_LOSS:.1%} allowed")
    print(
        f"leak: {result['leak']:.1e} when neighbours change, {result['packed_against_alone']:.1e} from the row alone "
        f"({result['packed_against_alone_relative']:.1e} of the largest logit)"
    )
    peaks = ", ".join(f"{mode} {peak / 2**20:,.0f} MiB" for mode, peak in result["peak_memory_bytes"].items())
    print(
        f"peak memory, {result['memory_model_parameters'] / 1e6:.0f} million parameters: {peaks}",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 without data or base, 1 if the losses differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each variant")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps per run; the first is not timed")
    parser.add_argument("--batch", type=int, default=8, help="rows per step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--base", default=str(DEMO_BASE), help="a model's folder (default: the demo's base)")
    parser.add_argument(
        "--part", choices=["packed", "length", "padded", "leak", *TUNE_MODES], help="run only this part"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    if not bitext.FILE.is_file():
        print(
            f"bench.training: the data is missing: put {bitext.FILE.name} into ../shared/data/bitext.", file=sys.stderr
        )
        return 2
    if not (Path(options.base) / "config.json").is_file():
        print("bench.training: the demo's base is not built yet: run `make demo-model`.", file=sys.stderr)
        return 2
    if options.part:
        print(json.dumps(run_part(options)))
        return 0
    result = run(options)
    show(result)
    if options.json:
        print(json.dumps(result))
    return 0 if result["same_loss"] else 1


if __name__ == "__main__":
    sys.exit(main())
