"""Tokens per second of a batch, and of vLLM's own load generator with the same prompts at the same engine, in turns."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.batches.deployment import Deployment, row
from bench.progress import print_progress
from models.demo import BASE, FOLDER

TOKENS = 64
_AT_ONCE = 64
_GENERATOR = Path(__file__).parent.parent.parent / "tests" / "clients" / "vllm_bench.py"


def texts() -> Iterator[str]:
    """Prompts that do not repeat, because an engine caches prefixes."""
    number = 100_000
    while True:
        number += 1
        yield f"{number}: where is this order, and when will it be here?"


def measure_throughput(parley: Deployment, folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """Medians over the rounds, and of the ratio to the load generator in the same round.

    The generator talks to the engine itself. A batch counts from its creation to its last status, so its check of the
    input and the result file are included.
    """
    prompts = texts()
    batch_rates, generator_rates = [], []
    _batch_rate(parley, [next(prompts) for _ in range(_AT_ONCE)])
    for number in range(rounds):
        print_progress(f"throughput, round {number + 1} of {rounds}")
        mine, theirs = ([next(prompts) for _ in range(rows)] for _ in range(2))
        batch_rates.append(_batch_rate(parley, mine))
        generator_rates.append(_generator_rate(parley, folder, theirs))
    ratios = [mine / theirs for mine, theirs in zip(batch_rates, generator_rates, strict=True)]
    return {
        "batch_tokens_per_s": round(median(batch_rates)),
        "generator_tokens_per_s": round(median(generator_rates)),
        "ratio": round(median(ratios), 3),
    }


def _batch_rate(parley: Deployment, prompts: list[str]) -> float:
    began = time.perf_counter()
    created = parley.create(row(number, BASE, text, TOKENS) for number, text in enumerate(prompts))
    done = parley.wait(created)
    seconds = time.perf_counter() - began
    if done.status != "completed" or done.usage is None or done.usage.output_tokens != len(prompts) * TOKENS:
        raise ConnectionError(f"the batch has not completed: {done}")
    return done.usage.output_tokens / seconds


def _generator_rate(parley: Deployment, folder: Path, prompts: list[str]) -> float:
    data, result = folder / "prompts.jsonl", folder / "result.json"
    data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    arguments: list[Any] = ["--backend", "openai-chat", "--base-url", parley.engine_address]
    arguments += ["--endpoint", "/v1/chat/completions", "--model", BASE, "--tokenizer", FOLDER / "base"]
    arguments += ["--ignore-eos", "--dataset-name", "custom", "--dataset-path", data, "--skip-chat-template"]
    arguments += ["--custom-output-len", TOKENS, "--num-prompts", len(prompts), "--max-concurrency", _AT_ONCE]
    arguments += ["--temperature", 0, "--disable-tqdm", "--save-result", "--result-filename", result]
    environment = os.environ | {"OPENAI_API_KEY": parley.engine_key, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(_GENERATOR), *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    measured = json.loads(result.read_text())
    if measured["completed"] != len(prompts):
        raise ConnectionError(f"the load generator completed {measured['completed']} of {len(prompts)}")
    return float(measured["output_throughput"])
