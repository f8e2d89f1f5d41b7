"""The Bitext support requests: reading, a hold-out by intent, and scorers learned from the training part.

The data is not part of the project and is read from the shared folder beside it, if present.
"""

import csv
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.scorers.sample import Sample
from evals.scorers.text_match import words

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bitext" / "bitext_20230818.csv"


@dataclass(frozen=True)
class Request:
    """One support request and its human answer."""

    question: str
    answer: str
    intent: str


@dataclass(frozen=True)
class Parts:
    """The training part and the held-out part."""

    training: tuple[Request, ...]
    held_out: tuple[Request, ...]


def read_requests(path: Path = FILE) -> tuple[Request, ...]:
    """Reads every row of the CSV, in order."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tuple(
            Request(row["instruction"].strip(), row["response"].strip(), row["intent"]) for row in csv.DictReader(file)
        )


def hold_out(requests: Sequence[Request], share: float, seed: int) -> Parts:
    """Holds out `share` of each intent. All copies of a repeated question go to the same part."""
    by_intent: dict[str, dict[str, list[Request]]] = defaultdict(lambda: defaultdict(list))
    for request in requests:
        by_intent[request.intent][request.question.casefold()].append(request)
    rng = random.Random(seed)
    training: list[Request] = []
    held_out: list[Request] = []
    for _, questions in sorted(by_intent.items()):
        groups = list(questions.values())
        rng.shuffle(groups)
        cut = round(share * len(groups))
        held_out += [request for group in groups[:cut] for request in group]
        training += [request for group in groups[cut:] for request in group]
    rng.shuffle(training)
    rng.shuffle(held_out)
    return Parts(tuple(training), tuple(held_out))


def marking_words(training: Sequence[Request], number: int) -> dict[str, tuple[str, ...]]:
    """The `number` words most typical of each intent's answers, by p·log(p/q) of the share of answers with the word."""
    with_word: dict[str, Counter[str]] = defaultdict(Counter)
    answers: Counter[str] = Counter()
    everywhere: Counter[str] = Counter()
    for request in training:
        distinct = {word for word in words(request.answer) if word.isalpha() and len(word) > 3}
        with_word[request.intent].update(distinct)
        everywhere.update(distinct)
        answers[request.intent] += 1
    total = sum(answers.values())
    marks = {}
    for intent, counts in with_word.items():
        inside, outside = answers[intent], total - answers[intent]

        def weight(word: str, counts: Counter[str] = counts, inside: int = inside, outside: int = outside) -> float:
            p = counts[word] / inside
            return p * math.log(p / ((everywhere[word] - counts[word] + 1) / (outside + 1)))

        marks[intent] = tuple(sorted(counts, key=lambda word: (-weight(word), word))[:number])
    return marks


def intent_scorer(training: Sequence[Request]) -> Callable[[Sample, str], float]:
    """A scorer: 1 if naive Bayes, fitted on the training answers, assigns the answer to the request's intent."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for request in training:
        counts[request.intent].update(set(words(request.answer)))
    answers = Counter(request.intent for request in training)
    vocabulary = set().union(*counts.values())
    logs: Mapping[str, Mapping[str, float]] = {
        intent: {word: math.log((counts[intent][word] + 0.5) / (answers[intent] + 1)) for word in vocabulary}
        for intent in answers
    }

    def score(sample: Sample, answer: str) -> float:
        known = set(words(answer)) & vocabulary
        if not known:
            return 0.0
        guess = max(logs, key=lambda intent: math.log(answers[intent]) + sum(logs[intent][word] for word in known))
        return float(guess == sample.category)

    return score


def overlap_scorer() -> Callable[[Sample, str], float | None]:
    """A scorer: F1 of the words shared with the human answer, as in ROUGE-1."""

    def score(sample: Sample, answer: str) -> float | None:
        if sample.expected is None:
            return None
        given, expected = Counter(words(answer)), Counter(words(sample.expected))
        shared = sum((given & expected).values())
        return 2 * shared / (sum(given.values()) + sum(expected.values())) if shared else 0.0

    return score
