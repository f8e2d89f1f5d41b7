"""The stages that serve: answers of base, adapter and merged model on real engines, and how fast each is."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.evals.answer_scores import score_answers
from bench.evals.answers import Answers, ask_all
from bench.evals.bitext import Request
from bench.progress import print_progress
from bench.real.training import ADAPTER, BASE, MERGED, Place, publish_models
from models.chat.completer import gateway_completer
from models.chat.messages import Message

_AT_ONCE = 16
_START_S = 300.0


@contextmanager
def served(place: Place) -> Iterator[None]:
    """Serves the home's models for a block."""
    from serve import start

    with start(place.settings, page=False, worker=False) as running:
        running.wait_ready(_START_S)
        yield


def serve_and_ask(place: Place) -> dict[str, Any]:
    """Everything that needs engines: answers, speeds, and parity through them. They start once."""
    with served(place):
        parity = publish_models(place)
        speeds = asyncio.run(compare_serving(place))
        answers = asyncio.run(ask_models(place))
    return {"parity": parity, "speeds": speeds, "answers": answers}


async def ask_models(place: Place) -> dict[str, Any]:
    """Asks the held-out questions, and the base also those of the DPO pairs; answers end at a limit.

    The base's engine and the merged model's run side by side, each on its own core.
    """
    sizes, parts = place.options.sizes, place.parts

    async def ask(model: str, requests: Sequence[Request], tokens: int) -> Answers:
        complete = gateway_completer(place.settings, model, timeout_s=900)
        print_progress(f"asking {model} {len(requests)} questions …")
        answers = await ask_all(complete, _questions(requests), max_tokens=tokens, at_once=_AT_ONCE)
        print_progress(f"    {model}: {answers.tokens_per_s} tokens/s, {answers.cut} of {len(requests)} cut")
        return answers

    async def ask_base() -> tuple[Answers, Answers, Answers]:
        return (
            await ask(BASE, parts.questions, sizes.answer_tokens),
            await ask(ADAPTER, parts.questions[: sizes.adapter_questions], sizes.answer_tokens),
            await ask(BASE, parts.pairs, sizes.rejected_tokens),
        )

    (base, adapter, rejected), merged = await asyncio.gather(
        ask_base(), ask(MERGED, parts.questions, sizes.answer_tokens)
    )
    return {
        name: {"answers": given.answers, "cut": given.cut, "tokens": given.tokens, "seconds": given.seconds}
        for name, given in (("base", base), ("adapter", adapter), ("merged", merged), ("rejected", rejected))
    }


async def compare_serving(place: Place) -> dict[str, Any]:
    """Completion tokens per second of base, adapter and merged model, in turns; ratios are medians of the rounds.

    Every answer has the same length, and each round other questions, because an engine caches prefixes.
    """
    sizes = place.options.sizes
    rounds: dict[str, list[float]] = {BASE: [], ADAPTER: [], MERGED: []}
    for number in range(sizes.served_rounds + 1):
        for model, speeds in rounds.items():
            start = number * sizes.served_requests
            requests = place.parts.training[start : start + sizes.served_requests]
            speed = await _measure_speed(place, model, requests, sizes.served_tokens if number else 4)
            if number:  # the first round warms up
                speeds.append(speed)
    times = [merged / adapter for merged, adapter in zip(rounds[MERGED], rounds[ADAPTER], strict=True)]
    return {
        "merged_times_adapter": round(statistics.median(times), 3),
        "tokens_per_s": {name: round(statistics.median(speeds), 1) for name, speeds in rounds.items()},
        "rounds": {name: [round(speed, 1) for speed in speeds] for name, speeds in rounds.items()},
        "concurrent": sizes.served_requests,
    }


async def _measure_speed(place: Place, model: str, requests: Sequence[Request], tokens: int) -> float:
    complete = gateway_completer(place.settings, model, timeout_s=600)
    options = {"temperature": 0.0, "max_tokens": tokens, "extra_body": {"ignore_eos": True}}
    began = time.perf_counter()
    answers = await asyncio.gather(*(complete(question, **options) for question in _questions(requests)))
    return sum(answer.completion_tokens or 0 for answer in answers) / (time.perf_counter() - began)


def score_models(place: Place, answers: dict[str, Any]) -> dict[str, Any]:
    """Scores of base and merged model, and the shares of answers that end by themselves."""
    base, merged, adapter = (answers[name] for name in ("base", "merged", "adapter"))
    given = sum(answer is not None for answer in (*merged["answers"], *adapter["answers"]))
    return score_answers(place.parts.whole, place.parts.questions, base["answers"], merged["answers"]) | {
        "stopped_share": round(1 - (merged["cut"] + adapter["cut"]) / max(1, given), 4),
        "base_stopped_share": round(1 - base["cut"] / max(1, len(base["answers"])), 4),
    }


def _questions(requests: Sequence[Request]) -> list[list[Message]]:
    return [[Message(role="user", content=request.question)] for request in requests]
