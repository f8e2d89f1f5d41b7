"""The Bitext support requests: reading, holding out by intent, and what marks an intent's answers.

The data is not part of the project: it is read from beside it, where it is there. Everything that scores answers
is learnt from the training part alone.
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

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "bitext" / "bitext_20230818.csv"


@dataclass(frozen=True)
class Request:
    """One support request with the answer that people wrote for it."""

    question: str
    answer: str
    intent: str


@dataclass(frozen=True)
class Parts:
    """What is learnt, and what is only asked."""

    learnt: tuple[Request, ...]
    held_out: tuple[Request, ...]


def read_requests(path: Path = FILE) -> tuple[Request, ...]:
    """Every row of the CSV, in its order."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return tuple(
            Request(row["instruction"].strip(), row["response"].strip(), row["intent"]) for row in csv.DictReader(file)
        )


def hold_out(requests: Sequence[Request], share: float, seed: int) -> Parts:
    """Holds out `share` of each intent. A question that stands in the data twice is never on both sides."""
    by_intent: dict[str, dict[str, list[Request]]] = defaultdict(lambda: defaultdict(list))
    for request in requests:
        by_intent[request.intent][request.question.casefold()].append(request)
    chance = random.Random(seed)
    learnt: list[Request] = []
    held: list[Request] = []
    for _, questions in sorted(by_intent.items()):
        groups = list(questions.values())
        chance.shuffle(groups)
        cut = round(share * len(groups))
        held += [request for group in groups[:cut] for request in group]
        learnt += [request for group in groups[cut:] for request in group]
    chance.shuffle(learnt)
    chance.shuffle(held)
    return Parts(tuple(learnt), tuple(held))


def marking_words(learnt: Sequence[Request], number: int) -> dict[str, tuple[str, ...]]:
    """For each intent, the words that its answers use and others' do not: p·log(p/q) over answers that have them."""
    having: dict[str, Counter[str]] = defaultdict(Counter)
    answers: Counter[str] = Counter()
    everywhere: Counter[str] = Counter()
    for request in learnt:
        found = {word for word in words(request.answer) if word.isalpha() and len(word) > 3}
        having[request.intent].update(found)
        everywhere.update(found)
        answers[request.intent] += 1
    total = sum(answers.values())
    marks = {}
    for intent, counts in having.items():
        inside, outside = answers[intent], total - answers[intent]

        def weight(word: str, counts: Counter[str] = counts, inside: int = inside, outside: int = outside) -> float:
            p = counts[word] / inside
            return p * math.log(p / ((everywhere[word] - counts[word] + 1) / (outside + 1)))

        marks[intent] = tuple(sorted(counts, key=lambda word: (-weight(word), word))[:number])
    return marks


def about_its_intent(learnt: Sequence[Request]) -> Callable[[Sample, str], float]:
    """A scorer: 1 where naive Bayes, fitted on the learnt answers, takes an answer for one to the asked intent."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for request in learnt:
        counts[request.intent].update(set(words(request.answer)))
    answers = Counter(request.intent for request in learnt)
    vocabulary = set().union(*counts.values())
    logs: Mapping[str, Mapping[str, float]] = {
        intent: {word: math.log((counts[intent][word] + 0.5) / (answers[intent] + 1)) for word in vocabulary}
        for intent in answers
    }

    def score(sample: Sample, answer: str) -> float:
        said = set(words(answer)) & vocabulary
        if not said:
            return 0.0
        guess = max(logs, key=lambda intent: math.log(answers[intent]) + sum(logs[intent][word] for word in said))
        return float(guess == sample.category)

    return score


def overlap() -> Callable[[Sample, str], float | None]:
    """A scorer: F1 of the words that an answer shares with the one that people wrote (as ROUGE-1 counts them)."""

    def score(sample: Sample, answer: str) -> float | None:
        if sample.expected is None:
            return None
        said, expected = Counter(words(answer)), Counter(words(sample.expected))
        shared = sum((said & expected).values())
        return 2 * shared / (sum(said.values()) + sum(expected.values())) if shared else 0.0

    return score
