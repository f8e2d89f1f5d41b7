"""Real data end to end: trains on 4,514 support conversations, then serves and compares the tuned model.

    python -m bench.support [--questions 200] [--judged 30] [--epochs 1] [--home FOLDER] [--json]

It holds out 10 % of each intent, trains an adapter on the demo's base with the code of `parley train`, publishes it,
serves base and tuned model, asks both the held-out questions through the OpenAI SDK, scores the answers, and has the
demo's judge (a toy) compare them. The human answers are scored as the reference. Exit status 2 without the data.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.evals.answer_scores import score_answers
from bench.evals.answers import AT_ONCE, ask_all
from bench.evals.bitext import Parts, Request
from bench.progress import print_progress
from models.chat.messages import Completer, Message
from models.demo import FOLDER
from models.errors import ParleyError
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from models.weights import read_lora_rank

BASE, TUNED, JUDGE = "demo-base", "bitext-support", "support-judge"
_NAMES = {"base": BASE, "tuned": TUNED}
_ANSWER_TOKENS = 400


@dataclass
class StepTimes:
    """The seconds of each step, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Prints and times a step."""
        print_progress(f"{name} …")
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 2)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 without the data or the demo's models."""
    parser = argparse.ArgumentParser(prog="python -m bench.support", description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=200, help="number of held-out questions; 0 for all")
    parser.add_argument("--judged", type=int, default=30, help="number of questions for the judge; 0 for none")
    parser.add_argument("--epochs", default="1", help="epochs, or auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads for training")
    parser.add_argument("--home", type=Path, default=None, help="keep the home here; an existing tuned model is reused")
    parser.add_argument("--port", type=int, default=8390, help="the gateway's port")
    parser.add_argument("--train-only", action="store_true", help="stop after training (with --home)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    if not bitext.FILE.is_file():
        print(
            f"bench.support: the data is missing: put {bitext.FILE.name} into ../shared/data/bitext.", file=sys.stderr
        )
        return 2
    if not (FOLDER / "base" / "config.json").is_file():
        print("bench.support: the demo's base is not built yet: run `make demo-model`.", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as temporary:
            result = run(options, load_settings(home=options.home or Path(temporary), port=options.port))
    except ParleyError as error:
        print(f"bench.support: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    if options.json:
        print(json.dumps(result))
    return 0


def run(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Runs all steps; returns the JSON object."""
    from models.database import open_database, upgrade

    times = StepTimes()
    with times.step("read"):
        requests = bitext.read_requests()
        parts = bitext.hold_out(requests, 0.1, options.seed)
    upgrade(settings)
    database = open_database(settings)
    registry = Registry(database)
    register_demo(registry)
    with times.step("train"):
        training = train_model(parts, options, settings, registry)
    result: dict[str, Any] = {
        "benchmark": "support",
        "conversations": len(requests),
        "learnt": len(parts.training),
        "held_out": len(parts.held_out),
        "cores": len(os.sched_getaffinity(0)),
        "loss_before": training["loss_before"],
        "loss_after": training["loss_after"],
        "training": {name: training[name] for name in ("epochs", "steps", "tokens", "seconds", "tokens_per_s")},
        "hyperparameters": training["hyperparameters"],
    }
    if not options.train_only:
        questions = parts.held_out[: options.questions or None]
        result |= asyncio.run(evaluate(parts, questions, options, settings, database, times))
    database.dispose()
    return result | {"seconds": times.seconds}


def register_demo(registry: Registry) -> None:
    """Registers the demo's base and judge in place."""
    known = {spec.id for spec in registry.list()}
    if BASE not in known:
        registry.register(ModelSpec(id=BASE, kind="base", path=str(FOLDER / "base")))
    judge = FOLDER / "adapters" / JUDGE
    if JUDGE not in known and judge.is_dir():
        rank = read_lora_rank(judge)
        registry.register(
            ModelSpec(id=JUDGE, kind="adapter", path=str(judge), base=BASE, lora_rank=rank, judge=True, toy=True)
        )


def train_model(parts: Parts, options: argparse.Namespace, settings: Settings, registry: Registry) -> dict[str, Any]:
    """Trains and publishes the tuned model, unless it exists; returns the stored training result."""
    from train import Hyperparameters, train
    from train.run.progress import PlainLines

    if TUNED not in {spec.id for spec in registry.list()}:
        train(
            conversations(parts.training),
            base=BASE,
            name=TUNED,
            settings=settings,
            registry=registry,
            hyperparameters=Hyperparameters(
                epochs="auto" if options.epochs == "auto" else float(options.epochs), seed=options.seed
            ),
            validation=conversations(parts.held_out),
            progress=PlainLines(print_progress),
            threads=options.threads,
        )
    folder = Path(str(registry.resolve(TUNED).path))
    return json.loads((folder / "training-result.json").read_text("utf-8"))


def conversations(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """The requests as rows of chat JSONL."""
    return [
        {"messages": [{"role": "user", "content": r.question}, {"role": "assistant", "content": r.answer}]}
        for r in requests
    ]


async def evaluate(
    parts: Parts,
    requests: Sequence[Request],
    options: argparse.Namespace,
    settings: Settings,
    database: Any,
    times: StepTimes,
) -> dict[str, Any]:
    """Serves both models, asks them, scores and judges the answers; returns its part of the JSON object."""
    from models.chat.completer import gateway_completer
    from serve import start

    with times.step("start"):
        running = start(settings, page=False, worker=False).wait_ready(300)
    with running:
        answers = {}
        for model in (BASE, TUNED):
            with times.step(f"ask {model}"):
                questions = [[Message(role="user", content=request.question)] for request in requests]
                answers[model] = await ask_all(gateway_completer(settings, model), questions, max_tokens=_ANSWER_TOKENS)
        judged = None
        if options.judged and JUDGE in {spec.id for spec in Registry(database).list()}:
            with times.step("judge"):
                judged = await judge(database, settings, requests[: options.judged])
    base, tuned = answers[BASE].answers, answers[TUNED].answers
    return {
        "questions": len(requests),
        **score_answers(parts, requests, base, tuned),
        "tokens_per_s": {name: answers[model].tokens_per_s for name, model in _NAMES.items()},
        "cut_at_limit": {name: answers[model].cut for name, model in _NAMES.items()},
        "failed": {name: answers[model].answers.count(None) for name, model in _NAMES.items()},
        "judge": judged,
    }


async def judge(database: Any, settings: Settings, requests: Sequence[Request]) -> dict[str, Any]:
    """The demo's judge on tuned against base, in both orders; an error as `error`."""
    from evals import judge_models
    from evals.judges.request import JudgeRequest
    from evals.votes.prompts import add_prompts
    from models.chat.completer import gateway_completer

    rows = [{"prompt": r.question, "category": r.intent, "held_out": True} for r in requests]
    add_prompts(database, rows, source="bitext")
    completer_for: Callable[[str], Completer] = lambda model: gateway_completer(settings, model)  # noqa: E731
    try:
        report = await judge_models(database, completer_for, JudgeRequest(JUDGE, (BASE, TUNED), len(rows)))
    except ParleyError as error:
        return {"judge": JUDGE, "error": str(error)}
    return {
        "judge": JUDGE,
        "judged": report.judged,
        "tuned_over_base": report.win_rate,
        "low": report.low,
        "high": report.high,
        "flip_rate": report.flip_rate,
        "unparsed": report.unparsed,
        "trusted": report.trusted,
        "summary": report.summary,
    }


def show(result: dict[str, Any]) -> None:
    """Prints the table."""
    training = result["training"]
    print(
        f"\nloss {result['loss_before']:.3f} → {result['loss_after']:.3f} on {result['held_out']} held-out pairs; "
        f"{training['tokens']:,} tokens in {training['seconds']:.0f} s ({training['tokens_per_s']:,.0f} tokens/s), "
        f"{training['epochs']:g} epochs"
    )
    if "scores" in result:
        print(f"\n{result['questions']} held-out questions, 95 % intervals")
        print(f"{'':<11}{'base':>22}{'tuned':>22}{'people':>10}{'tuned − base':>24}")
        for name in result["scores"]["base"]:
            base, tuned, people = (result["scores"][who][name] for who in ("base", "tuned", "people"))
            gain = _shown(result["tuned_minus_base"][name], sign="+")
            print(f"{name:<11}{_shown(base):>22}{_shown(tuned):>22}{people['mean']:>10.2f}{gain:>24}")
        speed = result["tokens_per_s"]
        print(
            f"\nserved at {speed['base']:,.0f} (base) and {speed['tuned']:,.0f} (tuned) tokens/s, {AT_ONCE} concurrent"
        )
        if result["judge"]:
            print(result["judge"].get("summary") or result["judge"]["error"])
    print("seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in result["seconds"].items()), flush=True)


def _shown(score: dict[str, Any], sign: str = "") -> str:
    if score["mean"] is None:
        return "—"
    interval = f" ({score['low']:{sign}.2f} to {score['high']:{sign}.2f})" if score["low"] is not None else ""
    return f"{score['mean']:{sign}.2f}{interval}"


if __name__ == "__main__":
    sys.exit(main())
