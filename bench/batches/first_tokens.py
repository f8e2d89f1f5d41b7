"""The time to the first token of interactive requests, without a batch and with one that keeps the engine full."""

import time
from collections.abc import Iterator
from typing import Any

from bench.batches.deployment import Deployment, row
from bench.batches.throughput import TOKENS, texts
from bench.progress import print_progress
from models.demo import BASE

_ANSWER_TOKENS, _PAUSE_S = 16, 0.1
_FACTOR, _MARGIN_MS = 1.5, 100.0


def measure_first_tokens(parley: Deployment, requests: int, rows: int) -> dict[str, Any]:
    """p50 and p95 in ms of requests that follow one another with pauses, and whether the p95 is within the goal."""
    prompts = texts()
    _times(parley, prompts, 5)
    print_progress("first tokens, without a batch")
    alone = _times(parley, prompts, requests)
    batch = parley.create(row(number, BASE, f"batch {next(prompts)}", TOKENS) for number in range(rows))
    parley.wait(batch, "in_progress")
    time.sleep(5)  # until the batch has filled the engine
    print_progress("first tokens, beside a batch")
    beside = _times(parley, prompts, requests)
    still_running = parley.client.batches.retrieve(batch.id).status == "in_progress"
    parley.client.batches.cancel(batch.id)
    parley.wait(batch)
    goal = max(_percentile(alone, 95) * _FACTOR, _percentile(alone, 95) + _MARGIN_MS)
    return {
        "alone_p50_ms": _percentile(alone, 50),
        "alone_p95_ms": _percentile(alone, 95),
        "batch_p50_ms": _percentile(beside, 50),
        "batch_p95_ms": _percentile(beside, 95),
        "goal_ms": round(goal, 1),
        "met": still_running and _percentile(beside, 95) <= goal,
    }


def _times(parley: Deployment, prompts: Iterator[str], requests: int) -> list[float]:
    return [_first_token_ms(parley, next(prompts)) for _ in range(requests)]


def _first_token_ms(parley: Deployment, text: str) -> float:
    began = time.perf_counter()
    stream = parley.client.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": text}], max_tokens=_ANSWER_TOKENS, stream=True, temperature=0
    )
    first = 0.0
    for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter()
    time.sleep(_PAUSE_S)
    return (first - began) * 1000


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)], 1)
