"""Measures judges that this machine can serve, on pairs with a known correct verdict.

    python -m bench.real.judges [--base FOLDER] [--pairs 48] [--shared 36] [--train 0] [--json]

The pairs are the demo's held-out ones, and pairs made from people's answers (`bench.real.judge_pairs`). Each is judged
in both orders, in one of these ways:

* `written`: the demo's judge writes its verdict as in `parley judge`; a tie counts as half right;
* `grades`: the sum of the grades in the same text;
* `verdict`: the model's log-probabilities of the letters A and B after the question which answer is better;
* `answer`: the mean log-probability of each answer's tokens after the customer's question alone;
* `relevance`: how much the question raises that log-probability;
* `tuned verdict`: `verdict` after training on `--train` pairs of the demo's training frames in that format.

Only pairs in which one answer is better count. `brier` is the mean squared error of a probability that is calibrated on
the other half of the pairs; a judge without any information gets 0.25.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.progress import print_progress
from bench.real.judge_pairs import support_pairs
from bench.real.options import parse_base
from evals.intervals import share_interval
from models.demo import BASE, FOLDER
from models.errors import ParleyError

_LETTERS = ("A", "B")
_NO_QUESTION = "Hello."
_JUDGE = FOLDER / "adapters" / "support-judge"
_ANSWER_TOKENS = 260
Scores = Callable[[str, str, str], tuple[float, float]]


@dataclass(frozen=True)
class JudgeFigures:
    """Shares of the pairs in which one answer is better.

    `right`: judged right by the sum of both orders, with its 95 % interval from `low` to `high`, and `by_fault`.
    `right_alone`: judged right in a single order. `flipped`: different verdicts in the two orders.
    """

    pairs: int
    right: float
    low: float
    high: float
    right_alone: float
    flipped: float
    brier: float
    seconds: float
    by_fault: dict[str, float]


def measure(pairs: Sequence[dict[str, Any]], scores: Scores) -> JudgeFigures:
    """Judges every pair that has a better answer, in both orders.

    Args:
        scores: the scores of the answers A and B to a question, in this order; the higher one wins.
    """
    right: list[float] = []
    margins: list[float] = []
    alone, flipped, began = 0.0, 0, time.perf_counter()
    decisive = [pair for pair in pairs if pair["verdict"] != "tie"]
    for pair in decisive:
        question, first, second = pair["question"], pair["answer_a"], pair["answer_b"]
        a, b = scores(question, first, second)
        swapped_b, swapped_a = scores(question, second, first)
        sign = 1 if pair["verdict"] == "A" else -1
        margins.append(sign * (a - b + swapped_a - swapped_b))
        right.append(_points(margins[-1]))
        alone += _points(sign * (a - b)) + _points(sign * (swapped_a - swapped_b))
        flipped += (a > b) != (swapped_a > swapped_b)
    number = len(decisive)
    share = share_interval(right, [pair["intent"] for pair in decisive])
    by_fault: dict[str, list[float]] = defaultdict(list)
    for pair, is_right in zip(decisive, right, strict=True):
        by_fault[pair.get("fault", "")].append(is_right)
    return JudgeFigures(
        number, share.mean, share.low, share.high, alone / (2 * number), flipped / number, calibrated_brier(margins),
        time.perf_counter() - began, {fault: sum(flags) / len(flags) for fault, flags in sorted(by_fault.items())},
    )  # fmt: skip


def _points(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def calibrated_brier(margins: Sequence[float]) -> float:
    """The Brier score of the probability 1 / (1 + exp(-slope · margin)).

    Args:
        margins: the score of the better answer over the other one's. Each half's slope is fitted on the other half.
    """
    errors: list[float] = []
    for place in (0, 1):
        fitted, tested = margins[1 - place :: 2], margins[place::2]
        spread = max((abs(margin) for margin in fitted), default=0.0) or 1.0
        # From 0, which ignores the margin, to near certainty. A negative slope would reverse the judge's verdicts.
        slopes = [10 ** (step / 10) / spread for step in range(-20, 21)]
        slope = min([0.0, *slopes], key=lambda slope: sum(_error(slope * margin) for margin in fitted))
        errors += [_error(slope * margin) for margin in tested]
    return sum(errors) / len(errors) if errors else 0.25


def _error(log_odds: float) -> float:
    return (1 / (1 + math.exp(max(-500.0, min(500.0, log_odds))))) ** 2


def verdict_prompt(question: str, first: str, second: str) -> list[dict[str, str]]:
    """The messages of the short format, which ends in one letter."""
    text = (
        f"A customer asks:\n{question}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\n"
        "Which answer is better for the customer? Reply with A or B."
    )
    return [{"role": "user", "content": text}]


class LogProbabilityJudge:
    """A model in memory that scores answers by log-probabilities, in float32."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self._letters = [tokenizer(letter, add_special_tokens=False)["input_ids"][-1] for letter in _LETTERS]
        self._cache: dict[tuple[str, str], float] = {}

    def verdict(self, question: str, first: str, second: str) -> tuple[float, float]:
        """Log-probabilities of the two letters."""
        import torch

        ids = self._prompt(verdict_prompt(question, first, second))
        with torch.no_grad():
            logits = self._model(input_ids=torch.tensor([ids]), logits_to_keep=1, use_cache=False).logits[0, -1]
        shares = logits.float().log_softmax(-1)
        return float(shares[self._letters[0]]), float(shares[self._letters[1]])

    def answer(self, question: str, first: str, second: str) -> tuple[float, float]:
        """Mean log-probabilities of the answers' tokens."""
        return self._likelihood(question, first), self._likelihood(question, second)

    def relevance(self, question: str, first: str, second: str) -> tuple[float, float]:
        """How much the question raises the mean log-probabilities of the answers' tokens."""
        a, b = (
            self._likelihood(question, answer) - self._likelihood(_NO_QUESTION, answer) for answer in (first, second)
        )
        return a, b

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _likelihood(self, question: str, answer: str) -> float:
        key = (question, answer)
        if key not in self._cache:
            self._cache[key] = self._mean_log_probability(question, answer)
        return self._cache[key]

    def _mean_log_probability(self, question: str, answer: str) -> float:
        import torch

        prompt = self._prompt([{"role": "user", "content": question}])
        ids = self._tokenizer(answer or " ", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = self._model(
                input_ids=torch.tensor([prompt + ids]), logits_to_keep=len(ids) + 1, use_cache=False
            ).logits[0, :-1]
        of_tokens = logits.float().log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        return float(of_tokens.mean())


def tune(base: Path, number: int, folder: Path, threads: int) -> Path:
    """Trains an adapter on `number` pairs of training frames in the short format; returns its folder."""
    from train import Hyperparameters, train
    from train.demo.catalogue import load_catalogue
    from train.demo.judge_pairs import pairs
    from train.run.progress import PlainLines

    decisive = [pair for pair in pairs(3, load_catalogue(), 2 * number) if pair.verdict != "tie"][:number]
    rows = [
        {
            "messages": [
                *verdict_prompt(pair.question, pair.answer_a, pair.answer_b),
                {"role": "assistant", "content": pair.verdict},
            ]
        }
        for pair in decisive
    ]
    result = train(
        rows, base=base, out=folder / "run", validation=0.05, threads=threads, progress=PlainLines(print_progress),
        hyperparameters=Hyperparameters(epochs=1, batch_size=8),
    )  # fmt: skip
    return result.adapter


class WritingJudge:
    """The demo's judge, which writes its verdict. All pairs are judged at once, in both orders."""

    def __init__(self, pairs: Sequence[dict[str, Any]]) -> None:
        from models.chat.judge_prompt import DEFAULT_RUBRIC, pairwise_messages, parse_pairwise
        from train.demo.evaluation import load

        orders = [
            (pair["question"], *answers)
            for pair in pairs
            for answers in ((pair["answer_a"], pair["answer_b"]), (pair["answer_b"], pair["answer_a"]))
        ]
        prompts = [
            [{"role": turn.role, "content": turn.content} for turn in pairwise_messages(*order, DEFAULT_RUBRIC)]
            for order in orders
        ]
        texts = load(FOLDER / "base", _JUDGE)(prompts, _ANSWER_TOKENS)
        self._parsed = dict(zip(orders, map(parse_pairwise, texts), strict=True))

    def written(self, question: str, first: str, second: str) -> tuple[float, float]:
        """1 for the better answer; 0.5 for both in a tie, or if the text contains no verdict."""
        parsed = self._parsed[question, first, second]
        return {"A": (1.0, 0.0), "B": (0.0, 1.0)}.get(parsed.verdict if parsed else "", (0.5, 0.5))

    def grades(self, question: str, first: str, second: str) -> tuple[float, float]:
        """The sums of the grades."""
        parsed = self._parsed[question, first, second]
        return (sum(parsed.scores_a.values()), sum(parsed.scores_b.values())) if parsed else (0.0, 0.0)


def run(base: Path, pairs: Mapping[str, Sequence[dict[str, Any]]], training: int, threads: int) -> dict[str, Any]:
    """Measures every judge on every set of pairs; returns the JSON object."""
    import torch

    from train.publication.adapted import load_adapted
    from train.trainers.bases import find_base, load_model, load_tokenizer
    from train.trainers.runtime import quiet

    torch.set_num_threads(threads)
    results: dict[str, dict[str, JudgeFigures]] = {name: {} for name in pairs}

    def judge_all(name: str, judge: Any, ways: Sequence[str]) -> None:
        for set_name, of_set in pairs.items():
            for way in ways:
                print_progress(f"{name}, {way}, on {set_name} …")
                results[set_name][f"{name}, {way}"] = measure(of_set, getattr(judge, way))

    with quiet(threads=threads), tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        everything = [pair for of_set in pairs.values() for pair in of_set]
        judge_all("support-judge", WritingJudge(everything), ("written", "grades"))
        for name, location in ((BASE, FOLDER / "base"), ("real base", base)):
            source = find_base(location)
            judge = LogProbabilityJudge(load_model(source, torch.float32, "cpu"), load_tokenizer(source))
            judge_all(name, judge, ("verdict", "answer", "relevance"))
        if training:
            adapter = tune(base, training, Path(folder), threads)
            source = find_base(base)
            judge = LogProbabilityJudge(load_adapted(source, adapter, torch.float32), load_tokenizer(source))
            judge_all("real base tuned", judge, ("verdict",))
    judges = {name: {judge: _rounded(asdict(figures)) for judge, figures in of.items()} for name, of in results.items()}
    return {"benchmark": "real judges", "training_pairs": training, "judges": judges}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 without the base."""
    parser = argparse.ArgumentParser(prog="python -m bench.real.judges", description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", type=Path, default=None, help="the base's folder, as in bench.real")
    parser.add_argument("--pairs", type=int, default=48, help="number of the demo's held-out pairs")
    parser.add_argument("--shared", type=int, default=36, help="number of pairs from the shared support requests")
    parser.add_argument("--train", type=int, default=0, help="also tune the base on this number of pairs")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    try:
        base = parse_base(options.base)
    except ParleyError as error:
        print(f"bench.real.judges: {error}", file=sys.stderr)
        return 2
    lines = (FOLDER / "judged.jsonl").read_text("utf-8").splitlines()[: options.pairs]
    pairs = {"demo pairs": [json.loads(line) for line in lines]}
    if options.shared and bitext.FILE.is_file():
        pairs["support pairs"] = support_pairs(bitext.read_requests(), options.shared)
    result = run(base, pairs, options.train, options.threads)
    for set_name, judges in result["judges"].items():
        print(f"{set_name}:")
        for name, figures in judges.items():
            print(
                f"  {name:<28}{figures['right']:>6.0%} right ({figures['low']:.0%} to {figures['high']:.0%}), "
                f"{figures['right_alone']:.0%} in one order, {figures['flipped']:.0%} flipped, "
                f"Brier {figures['brier']:.3f}, {figures['pairs']} pairs in {figures['seconds']:.0f} s"
            )
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
