"""The demo's models as they are served: house style, topics, copied numbers, and the toy judge, on held-out frames.

    python -m bench.demo_model [--questions N] [--pairs N] [--json] [--readme]

It starts `parley demo` over an empty home, asks every held-out question through the OpenAI SDK, greedily, and scores
the answers with the scorers of `evals`; the judge is asked about the held-out pairs in both orders, under its JSON
schema. `--readme` writes the table into README.md.
"""

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.asking import Asked, ask, say
from evals.scorers.scoring import ScoreSummary, score_all
from evals.scorers.words import Sample, Scorer, partial, repetition, topic_coverage, word_count
from models.demo import FOLDER, PROMPTS
from models.errors import ParleyError
from models.judge_format import DEFAULT_RUBRIC, pairwise_messages, pairwise_schema, parse_pairwise, response_format
from models.messages import Message
from models.settings import Settings, load_settings
from train.demo.answers import has_style

MODELS = ("demo-base", "support-concise", "support-friendly")
JUDGE = "support-judge"
README = Path(__file__).resolve().parent.parent / "README.md"
_TURNED = {"A": "B", "B": "A", "tie": "tie"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo_model", description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--questions", type=int, default=None, help="how many of the held-out questions; all without it"
    )
    parser.add_argument("--pairs", type=int, default=None, help="how many of the held-out pairs; all without it")
    parser.add_argument("--port", type=int, default=8491, help="the gateway's port while it serves")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    options = parser.parse_args(arguments)
    prompts = _lines(PROMPTS)[: options.questions]
    pairs = _lines(FOLDER / "judged.jsonl")[: options.pairs]
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
            settings = load_settings(home=Path(home), port=options.port)
            result = asyncio.run(measured(settings, prompts, pairs))
    except ParleyError as error:
        print(f"bench.demo_model: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    if options.readme:
        write_readme(table(result))
    if options.json:
        print(json.dumps(result))
    return 0


async def measured(settings: Settings, prompts: Sequence[Any], pairs: Sequence[Any]) -> dict[str, Any]:
    """Serves the demo, asks, scores; returns the JSON object."""
    from models.completer import gateway_completer
    from serve import start

    say("starting the demo …")
    with start(settings, command="demo", page=False, worker=False) as running:
        running.wait_ready(300)
        questions = [[Message(**message) for message in prompt["messages"]] for prompt in prompts]
        asked = {}
        for model in MODELS:
            say(f"asking {model} …")
            asked[model] = await ask(gateway_completer(settings, model), questions, max_tokens=200)
        say(f"asking {JUDGE} …")
        judged = await judge(gateway_completer(settings, JUDGE), pairs)
    return {
        "benchmark": "demo_model",
        "questions": len(prompts),
        "pairs": len(pairs),
        "scores": {model: scores(prompts, one) for model, one in asked.items()},
        "tokens_per_s": {model: one.tokens_per_s for model, one in asked.items()},
        "judge": judged,
    }


def scores(prompts: Sequence[Any], asked: Asked) -> dict[str, Any]:
    """Every scorer over one model's answers: mean and 95 % interval, clustered by intent.

    Questions of one intent share their topics and their answers' wording, so they are no independent observations.
    """
    samples = [Sample(p["category"], p["number"], tuple(map(tuple, p["topics"])), p["category"]) for p in prompts]
    scorers: dict[str, Scorer] = {
        "topics": topic_coverage(),
        "number": partial(),
        "concise": lambda _, answer: float(has_style(answer, "concise")),
        "friendly": lambda _, answer: float(has_style(answer, "friendly")),
        "repetition": repetition(),
        "words": word_count(),
    }
    return {name: _rounded(one) for name, one in score_all(samples, asked.answers, scorers).items()}


async def judge(complete: Any, pairs: Sequence[Any]) -> dict[str, Any]:
    """The judge on pairs whose right verdict is known, in both orders, decoded under the schema.

    `right` is the share of single verdicts that are right, `chance` what always saying the most frequent one gets.
    """
    form = response_format("verdict", pairwise_schema(DEFAULT_RUBRIC))
    slots = asyncio.Semaphore(16)

    async def one(question: str, a: str, b: str) -> str | None:
        async with slots:
            messages = pairwise_messages(question, a, b, DEFAULT_RUBRIC)
            answer = await complete(messages, temperature=0.0, max_tokens=300, response_format=form)
            parsed = parse_pairwise(answer.text)
            return parsed.verdict if parsed else None

    asked = [one(p["question"], p["answer_a"], p["answer_b"]) for p in pairs]
    turned = [one(p["question"], p["answer_b"], p["answer_a"]) for p in pairs]
    said = await asyncio.gather(*asked, *turned)
    truths = [p["verdict"] for p in pairs] + [_TURNED[p["verdict"]] for p in pairs]
    right = [verdict == truth for verdict, truth in zip(said, truths, strict=True)]
    decisive = [ok for ok, truth in zip(right, truths, strict=True) if truth != "tie"]
    first, second = said[: len(pairs)], said[len(pairs) :]
    flips = [a is not None and b is not None and a != _TURNED[b] for a, b in zip(first, second, strict=True)]
    faults: dict[str, list[bool]] = {}
    for i, ok in enumerate(right):
        faults.setdefault(pairs[i % len(pairs)]["fault"], []).append(ok)
    return {
        "right": _share(right),
        "decisive": _share(decisive),
        "flipped": _share(flips),
        "unparsed": sum(verdict is None for verdict in said),
        "chance": round(max(truths.count(verdict) for verdict in _TURNED) / len(truths), 4),
        "by_fault": {fault: _share(found) for fault, found in sorted(faults.items())},
    }


def table(result: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    rows = [
        ("expected topics covered", "topics", "{:.0%}"),
        ("unseen number copied exactly", "number", "{:.1%}"),
        ("keeps the concise style", "concise", "{:.0%}"),
        ("keeps the friendly style", "friendly", "{:.0%}"),
        ("words", "words", "{:.0f}"),
    ]
    lines = [f"| {result['questions']} held-out questions | " + " | ".join(f"`{model}`" for model in MODELS) + " |"]
    lines.append("|---" * (len(MODELS) + 1) + "|")
    for title, name, form in rows:
        cells = [_shown(result["scores"][model][name], form) for model in MODELS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    said = result["judge"]
    lines += [
        "",
        f"The toy judge, `{JUDGE}`, on {result['pairs']} held-out pairs whose right verdict is known by how they were "
        f"made, each in both orders: {said['right']:.0%} of its verdicts are right ({said['decisive']:.0%} where one "
        f"answer is better; always saying the same would get {said['chance']:.0%}), its two orders disagree on "
        f"{said['flipped']:.0%} of the pairs, and {said['unparsed']} verdicts did not parse.",
    ]
    return "\n".join(lines)


def write_readme(text: str) -> None:
    """Puts the table between README.md's marks."""
    whole = README.read_text("utf-8")
    marked = re.compile(r"(<!-- demo-metrics -->\n).*?(<!-- /demo-metrics -->)", re.DOTALL)
    README.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", whole), "utf-8")


def _shown(one: Mapping[str, Any], form: str) -> str:
    if one["mean"] is None:
        return "—"
    middle = form.format(one["mean"])
    if one["low"] is None:
        return middle
    return f"{middle} ({form.format(one['low'])}–{form.format(one['high'])})"


def _rounded(one: ScoreSummary) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in one.to_json().items()}


def _share(found: Sequence[bool]) -> float:
    return round(sum(found) / len(found), 4) if found else 0.0


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
