"""The demo's models as served: style, topics, copied numbers, the toy judge, and calls, on held-out sentence frames.

    python -m bench.demo_model [--questions N] [--pairs N] [--requests N] [--json] [--readme]

It starts `parley demo` over an empty home, asks every held-out question greedily through the OpenAI SDK, and scores
the answers with the scorers of `evals`. The judge compares the held-out pairs in both orders, under its JSON schema.
`--readme` writes the table into README.md.
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

from bench import demo_tools
from bench.evals.answers import Answers, ask_all
from bench.progress import print_progress
from evals.scorers.sample import Sample, Scorer
from evals.scorers.score_summary import ScoreSummary, score_all
from evals.scorers.text_match import partial, repetition, topic_coverage, word_count
from models.chat.judge_prompt import DEFAULT_RUBRIC, pairwise_messages, pairwise_schema, parse_pairwise, response_format
from models.chat.messages import Message
from models.demo import FOLDER, PROMPTS
from models.errors import ParleyError
from models.settings.settings import Settings, load_settings
from train.demo.answers import has_style
from train.demo.tool_evaluation import ToolPrompt

MODELS = ("demo-base", "support-concise", "support-friendly")
JUDGE = "support-judge"
README = Path(__file__).resolve().parent.parent / "README.md"
_SWAPPED = {"A": "B", "B": "A", "tie": "tie"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo_model", description=str(__doc__).splitlines()[0])
    parser.add_argument("--questions", type=int, default=None, help="number of held-out questions (default: all)")
    parser.add_argument("--pairs", type=int, default=None, help="number of held-out pairs (default: all)")
    parser.add_argument("--requests", type=int, default=None, help="number of requests with tools (default: all)")
    parser.add_argument("--port", type=int, default=8491, help="the gateway's port")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    options = parser.parse_args(arguments)
    prompts = _lines(PROMPTS)[: options.questions]
    pairs = _lines(FOLDER / "judged.jsonl")[: options.pairs]
    requests = demo_tools.read_prompts()[: options.requests]
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
            settings = load_settings(home=Path(home), port=options.port)
            result = asyncio.run(measure_models(settings, prompts, pairs, requests))
    except ParleyError as error:
        print(f"bench.demo_model: {error}", file=sys.stderr)
        return error.exit_code
    print(table(result))
    print(demo_tools.table(result["tools"]))
    if options.readme:
        write_readme(table(result))
    if options.json:
        print(json.dumps(result))
    return 0


async def measure_models(
    settings: Settings, prompts: Sequence[Any], pairs: Sequence[Any], requests: Sequence[ToolPrompt]
) -> dict[str, Any]:
    """Serves the demo, asks and scores its models; returns the JSON object."""
    from models.chat.completer import gateway_completer
    from serve import start

    print_progress("starting the demo …")
    with start(settings, command="demo", page=False, worker=False) as running:
        running.wait_ready(300)
        questions = [[Message(**message) for message in prompt["messages"]] for prompt in prompts]
        answers = {}
        for model in MODELS:
            print_progress(f"asking {model} …")
            answers[model] = await ask_all(gateway_completer(settings, model), questions, max_tokens=200)
        print_progress(f"asking {JUDGE} …")
        judged = await judge(gateway_completer(settings, JUDGE), pairs)
        print_progress(f"asking {demo_tools.MODEL} …")
        tools = await demo_tools.measure_tools(gateway_completer(settings, demo_tools.MODEL), requests)
    return {
        "benchmark": "demo_model",
        "questions": len(prompts),
        "pairs": len(pairs),
        "scores": {model: scores(prompts, given) for model, given in answers.items()},
        "tokens_per_s": {model: given.tokens_per_s for model, given in answers.items()},
        "judge": judged,
        "tools": tools,
    }


def scores(prompts: Sequence[Any], given: Answers) -> dict[str, Any]:
    """Each scorer's mean and 95 % interval over one model's answers, clustered by intent.

    Questions of one intent share topics and wording, so they are not independent.
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
    return {name: _rounded(summary) for name, summary in score_all(samples, given.answers, scorers).items()}


async def judge(complete: Any, pairs: Sequence[Any]) -> dict[str, Any]:
    """The judge's verdicts on pairs with known answers, in both orders, decoded under the schema.

    `right` is the share of correct verdicts; `chance` that of always giving the most frequent one.
    """
    form = response_format("verdict", pairwise_schema(DEFAULT_RUBRIC))
    slots = asyncio.Semaphore(16)

    async def compare(question: str, a: str, b: str) -> str | None:
        async with slots:
            messages = pairwise_messages(question, a, b, DEFAULT_RUBRIC)
            answer = await complete(messages, temperature=0.0, max_tokens=300, response_format=form)
            parsed = parse_pairwise(answer.text)
            return parsed.verdict if parsed else None

    as_given = [compare(p["question"], p["answer_a"], p["answer_b"]) for p in pairs]
    swapped = [compare(p["question"], p["answer_b"], p["answer_a"]) for p in pairs]
    verdicts = await asyncio.gather(*as_given, *swapped)
    truths = [p["verdict"] for p in pairs] + [_SWAPPED[p["verdict"]] for p in pairs]
    right = [verdict == truth for verdict, truth in zip(verdicts, truths, strict=True)]
    decisive = [ok for ok, truth in zip(right, truths, strict=True) if truth != "tie"]
    first, second = verdicts[: len(pairs)], verdicts[len(pairs) :]
    flips = [a is not None and b is not None and a != _SWAPPED[b] for a, b in zip(first, second, strict=True)]
    faults: dict[str, list[bool]] = {}
    for i, ok in enumerate(right):
        faults.setdefault(pairs[i % len(pairs)]["fault"], []).append(ok)
    return {
        "right": _share(right),
        "decisive": _share(decisive),
        "flipped": _share(flips),
        "unparsed": sum(verdict is None for verdict in verdicts),
        "chance": round(max(truths.count(verdict) for verdict in _SWAPPED) / len(truths), 4),
        "by_fault": {fault: _share(flags) for fault, flags in sorted(faults.items())},
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
    judged = result["judge"]
    lines += [
        "",
        f"The toy judge, `{JUDGE}`, on {result['pairs']} held-out pairs with a known correct verdict, each in "
        f"both orders: {judged['right']:.0%} of its verdicts are right ({judged['decisive']:.0%} where "
        f"one answer is better; always saying the same would get {judged['chance']:.0%}), its two orders disagree on "
        f"{judged['flipped']:.0%} of the pairs. Verdicts that did not parse: {judged['unparsed']}.",
    ]
    return "\n".join(lines)


def write_readme(text: str) -> None:
    """Writes the table between README.md's markers."""
    whole = README.read_text("utf-8")
    marked = re.compile(r"(<!-- demo-metrics -->\n).*?(<!-- /demo-metrics -->)", re.DOTALL)
    README.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", whole), "utf-8")


def _shown(score: Mapping[str, Any], form: str) -> str:
    if score["mean"] is None:
        return "—"
    middle = form.format(score["mean"])
    if score["low"] is None:
        return middle
    return f"{middle} ({form.format(score['low'])}–{form.format(score['high'])})"


def _rounded(summary: ScoreSummary) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in summary.to_json().items()}


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / len(flags), 4) if flags else 0.0


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


if __name__ == "__main__":
    sys.exit(main())
