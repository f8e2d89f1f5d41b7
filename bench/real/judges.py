"""Measures judges that this machine can serve, on pairs with a known correct verdict.

    python -m bench.real.judges [--base FOLDER] [--pairs 60] [--train 0] [--json]

The pairs are the demo's held-out ones. Each is judged in both orders without generating text:

* `verdict`: the model's log-probability of the letters A and B after the question which answer is better;
* `answer`: the mean log-probability of each answer's tokens after the customer's question alone;
* `tuned verdict`: `verdict` after training on `--train` pairs of the demo's training frames in that format.

These judges give no ties, so only pairs with a better answer count. `bench.demo_model` measures the demo's own judge.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.progress import print_progress
from bench.real.options import parse_base
from evals.intervals import share_interval
from models.demo import BASE, FOLDER
from models.errors import ParleyError

_LETTERS = ("A", "B")
Scores = Callable[[str, str, str], tuple[float, float]]


@dataclass(frozen=True)
class JudgeFigures:
    """Shares of the pairs with a better answer: right by the sum of both orders, right in one order, and with different
    verdicts in the two orders (`flipped`). `low` and `high` are the 95 % interval of `right`.
    """

    pairs: int
    right: float
    low: float
    high: float
    right_alone: float
    flipped: float


def measure(pairs: Sequence[dict[str, Any]], scores: Scores) -> JudgeFigures:
    """Judges every pair that has a better answer, in both orders.

    Args:
        scores: the scores of the answers A and B to a question, in this order; the higher one wins.
    """
    right: list[float] = []
    alone = flipped = 0
    decisive = [pair for pair in pairs if pair["verdict"] != "tie"]
    for pair in decisive:
        question, first, second = pair["question"], pair["answer_a"], pair["answer_b"]
        a, b = scores(question, first, second)
        swapped_b, swapped_a = scores(question, second, first)
        better_a = pair["verdict"] == "A"
        right.append(float((a + swapped_a > b + swapped_b) == better_a))
        alone += ((a > b) == better_a) + ((swapped_a > swapped_b) == better_a)
        flipped += (a > b) != (swapped_a > swapped_b)
    number = len(decisive)
    share = share_interval(right, [pair["intent"] for pair in decisive])
    return JudgeFigures(number, share.mean, share.low, share.high, alone / (2 * number), flipped / number)


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

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _likelihood(self, question: str, answer: str) -> float:
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


def run(base: Path, pairs: Sequence[dict[str, Any]], training: int, threads: int) -> dict[str, Any]:
    """Measures every judge; returns the JSON object."""
    import torch

    from train.publication.adapted import load_adapted
    from train.trainers.bases import find_base, load_model, load_tokenizer
    from train.trainers.runtime import quiet

    torch.set_num_threads(threads)
    results: dict[str, JudgeFigures] = {}
    with quiet(threads=threads), tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        for name, location in ((BASE, FOLDER / "base"), ("real base", base)):
            source = find_base(location)
            judge = LogProbabilityJudge(load_model(source, torch.float32, "cpu"), load_tokenizer(source))
            for way in ("verdict", "answer"):
                print_progress(f"{name}: {way} …")
                results[f"{name}, {way}"] = measure(pairs, getattr(judge, way))
        if training:
            adapter = tune(base, training, Path(folder), threads)
            source = find_base(base)
            judge = LogProbabilityJudge(load_adapted(source, adapter, torch.float32), load_tokenizer(source))
            results["real base, tuned verdict"] = measure(pairs, judge.verdict)
    judges = {
        name: {key: round(value, 4) for key, value in asdict(figures).items()} for name, figures in results.items()
    }
    return {"benchmark": "real judges", "training_pairs": training, "judges": judges}


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 2 without the base."""
    parser = argparse.ArgumentParser(prog="python -m bench.real.judges", description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", type=Path, default=None, help="the base's folder, as in bench.real")
    parser.add_argument("--pairs", type=int, default=60, help="number of held-out pairs")
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
    result = run(base, [json.loads(line) for line in lines], options.train, options.threads)
    for name, figures in result["judges"].items():
        print(
            f"{name:<28}{figures['right']:>6.0%} right ({figures['low']:.0%} to {figures['high']:.0%}), "
            f"{figures['right_alone']:.0%} in one order, {figures['flipped']:.0%} flipped, {figures['pairs']} pairs"
        )
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
