"""What the demo's models can do, measured where people meet them: served, through the OpenAI SDK, by evals' scorers.

    python -m bench.demo_model [--home FOLDER] [--port N] [--json]

It puts the demo into a home, serves it, asks base and tuned models the held-out questions in models/demo, and shows
the judge the held-out pairs in both orders. `python -m train.demo` measures the same with transformers alone.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.scorers import Sample, Scorer, partial, topic_coverage, word_count
from evals.scoring import ScoreSummary, paired_difference, score_all
from models.completer import gateway_completer
from models.demo import FOLDER, PROMPTS, catalogue
from models.errors import ParleyError
from models.judge_format import (
    DEFAULT_RUBRIC,
    Verdict,
    pairwise_messages,
    pairwise_schema,
    parse_pairwise,
    response_format,
)
from models.messages import Completer, Message
from models.settings import Settings, child_environment, load_settings
from train.demo.answers import keeps_style
from train.demo.world import Style

BASE, JUDGE = "demo-base", "support-judge"
STYLES: dict[str, Style] = {BASE: "neutral", "support-concise": "concise", "support-friendly": "friendly"}
_AT_ONCE = 16
_TURNED: dict[str | None, str | None] = {"A": "B", "B": "A", "tie": "tie", None: None}


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 where the demo model is not built."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo_model", description="Measure the demo, served.")
    parser.add_argument("--home", type=Path, default=None, help="keep everything here")
    parser.add_argument("--port", type=int, default=8391, help="the gateway's port while it serves")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(arguments)
    if not PROMPTS.is_file():
        print("bench.demo_model: the demo model is not built yet: `make demo-model`.", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as temporary:
            result = run(load_settings(home=options.home or Path(temporary), port=options.port))
    except ParleyError as error:
        print(f"bench.demo_model: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    if options.json:
        print(json.dumps(result))
    return 0


def run(settings: Settings) -> dict[str, Any]:
    """Installs the demo, serves it, measures; returns the JSON object."""
    from models.database import upgrade
    from serve import start

    upgrade(settings)
    installed = subprocess.run(
        [sys.executable, "-m", "parley", "demo-content"],
        env=child_environment(settings),
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        raise ParleyError((installed.stderr.strip().splitlines() or ["the demo could not be installed"])[-1])
    with start(settings, page=False, worker=False).wait_ready(300):
        return asyncio.run(measured(settings))


async def measured(settings: Settings) -> dict[str, Any]:
    """All questions to all models, then all pairs to the judge."""
    prompts = _lines(PROMPTS)
    pairs = _lines(FOLDER / "judged.jsonl")
    talks = [[Message(**message) for message in prompt["messages"]] for prompt in prompts]
    samples = [_sample(prompt) for prompt in prompts]
    answers = {
        model: await _ask(gateway_completer(settings, model), talks, max_tokens=200)
        for model in (model.id for model in catalogue() if model.id in STYLES)
    }
    scores = {model: score_all(samples, found, _scorers(STYLES[model])) for model, found in answers.items()}
    gains = {
        model: paired_difference(samples, answers[BASE], answers[model], topic_coverage())
        for model in answers
        if model != BASE
    }
    return {
        "benchmark": "demo_model",
        "questions": len(prompts),
        "scores": {model: {name: _rounded(one) for name, one in found.items()} for model, found in scores.items()},
        "topics_over_base": {model: _rounded(one) for model, one in gains.items()},
        "judge": await _judge(gateway_completer(settings, JUDGE), pairs),
    }


def _scorers(style: Style) -> dict[str, Scorer]:
    """evals' scorers; `style` is 1 where the answer keeps to the model's house style."""
    return {
        "number": partial(ignore_case=False),
        "topics": topic_coverage(),
        "style": lambda _, answer: float(keeps_style(answer, style)),
        "words": word_count(),
    }


async def _judge(judge: Completer, pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The verdicts on held-out pairs, in both orders, against what is right by construction."""
    shown: list[tuple[list[Message], str | None]] = []
    for pair in pairs:
        asked, first, second = pair["question"], pair["answer_a"], pair["answer_b"]
        shown.append((pairwise_messages(asked, first, second, DEFAULT_RUBRIC), pair["verdict"]))
        shown.append((pairwise_messages(asked, second, first, DEFAULT_RUBRIC), _TURNED[pair["verdict"]]))
    form = response_format("verdict", pairwise_schema(DEFAULT_RUBRIC))
    texts = await _ask(judge, [talk for talk, _ in shown], max_tokens=400, response_format=form)
    said: list[Verdict | None] = []
    for text in texts:
        parsed = parse_pairwise(text or "")
        said.append(parsed.verdict if parsed else None)
    right = [verdict == truth for verdict, (_, truth) in zip(said, shown, strict=True)]
    decisive = [is_right for is_right, (_, truth) in zip(right, shown, strict=True) if truth != "tie"]
    flips = sum(said[at] != _TURNED[said[at + 1]] for at in range(0, len(said), 2))
    return {
        "pairs": len(pairs),
        "right": round(sum(right) / len(right), 4),
        "right_decisive": round(sum(decisive) / len(decisive), 4),
        "flipped": round(flips / len(pairs), 4),
        "unparsed": sum(verdict is None for verdict in said),
    }


async def _ask(complete: Completer, talks: Sequence[Sequence[Message]], **options: Any) -> list[str | None]:
    """Every conversation's answer, many at once, greedily; None where it failed."""
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(talk: Sequence[Message]) -> str | None:
        async with slots:
            try:
                return (await complete(talk, temperature=0.0, **options)).text
            except ParleyError as error:
                print(f"not answered: {error}", file=sys.stderr)
                return None

    return await asyncio.gather(*(one(talk) for talk in talks))


def _sample(prompt: dict[str, Any]) -> Sample:
    topics = tuple(tuple(group) for group in prompt["topics"])
    return Sample(prompt["id"], expected=prompt["number"], topics=topics, category=prompt["category"])


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _rounded(one: ScoreSummary) -> dict[str, float | int | None]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in one.to_json().items()}


def show(result: dict[str, Any]) -> None:
    """The table, as the README has it."""
    print(f"\n{result['questions']} held-out questions, 95 % intervals")
    models = list(result["scores"])
    print(f"{'':<8}" + "".join(f"{model:>24}" for model in models))
    for name in result["scores"][BASE]:
        print(f"{name:<8}" + "".join(f"{_shown(result['scores'][model][name]):>24}" for model in models))
    for model, gain in result["topics_over_base"].items():
        print(f"topics, {model} over base: {_shown(gain)}")
    judge = result["judge"]
    print(
        f"judge: {judge['right']:.1%} of {2 * judge['pairs']} verdicts right in both orders "
        f"({judge['right_decisive']:.1%} where one is better), {judge['flipped']:.1%} of pairs flipped, "
        f"{judge['unparsed']} unparsed"
    )


def _shown(one: dict[str, Any]) -> str:
    if one["mean"] is None:
        return "—"
    return (
        f"{one['mean']:.2f} ({one['low']:.2f} to {one['high']:.2f})" if one["low"] is not None else f"{one['mean']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
