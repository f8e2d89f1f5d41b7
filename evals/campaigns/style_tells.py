"""How well style alone identifies the model that wrote an answer.

A rater who notices that one model always writes in bold, or always ends with "Best regards,", votes less blind than it
seems. A naive Bayes classifier on a few marks of style is trained on four fifths of the prompts and guesses the sides
of the rest, in turn. The result is reported and not corrected, because style is part of the answer.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from sqlalchemy import select

from evals.intervals import share_interval
from evals.tables import BattleRow, PairRow
from models.database import Database

MIN_PROMPTS = 10
_FOLDS = 5
_MOST_TELLS = 3
_CLEAR = 0.5  # a mark is named from this difference between the two shares
_MARKS = {
    "bold": re.compile(r"\*\*[^*\n]+\*\*"),
    "headings": re.compile(r"^#{1,6} ", re.MULTILINE),
    "lists": re.compile(r"^\s*(?:[-*•]|\d+\.) ", re.MULTILINE),
    "code": re.compile(r"`"),
    "emoji": re.compile(r"[\U0001f300-\U0001faff☀-➿]"),
    "an exclamation mark": re.compile(r"!"),
}


@dataclass(frozen=True)
class Tell:
    """A mark of style, and the shares of the two models' answers that have it."""

    mark: str
    share_1: float
    share_2: float


@dataclass(frozen=True)
class StyleTells:
    """How often style alone identifies the model: 0.5 is chance. `low` to `high` is a 95 % interval.

    `tells` are the marks that differ most, at most three.
    """

    model_1: str
    model_2: str
    prompts: int
    accuracy: float
    low: float
    high: float
    tells: tuple[Tell, ...]

    @property
    def text(self) -> str:
        """The result in one sentence."""
        found = f"Style alone identifies {self.model_1} and {self.model_2} in {self.accuracy:.0%} of the pairs"
        numbers = f" (95 % interval {self.low:.0%} to {self.high:.0%}; chance is 50 %)"
        marks = "; ".join(f"{tell.mark}: {tell.share_1:.0%} and {tell.share_2:.0%}" for tell in self.tells)
        return f"{found}{numbers}." + (f" The largest differences: {marks}." if marks else "")


def campaign_style(database: Database, name: str) -> list[StyleTells]:
    """The style of every two models of a campaign that were shown on at least 10 prompts."""
    shown = select(BattleRow.pair_id).where(BattleRow.campaign == name, BattleRow.gold.is_(False))
    query = select(PairRow.model_1, PairRow.model_2, PairRow.prompt_id, PairRow.answer_1, PairRow.answer_2)
    by_models: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    with database.read() as session:
        for first, second, prompt, one, two in session.execute(query.where(PairRow.id.in_(shown)).order_by(PairRow.id)):
            if one and two:
                by_models.setdefault((first, second), {}).setdefault(prompt, (one, two))
    return [
        style_tells(models, list(answers.values()))
        for models, answers in sorted(by_models.items())
        if len(answers) >= MIN_PROMPTS
    ]


def style_tells(models: tuple[str, str], answers: Sequence[tuple[str, str]]) -> StyleTells:
    """How well style identifies two models. `answers`: the first and the second model's, one pair for each prompt."""
    marks = [(_marks(one), _marks(two)) for one, two in answers]
    right: list[float] = []
    for fold in range(_FOLDS):
        known = [pair for place, pair in enumerate(marks) if place % _FOLDS != fold]
        weights = _weights(known)
        for one, two in marks[fold::_FOLDS]:
            gap = sum(weights.get(mark, 0.0) for mark in one) - sum(weights.get(mark, 0.0) for mark in two)
            right.append(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
    share = share_interval(right, range(len(right)))
    return StyleTells(*models, len(marks), share.mean, share.low, share.high, _tells(marks))


def _marks(text: str) -> frozenset[str]:
    words, lines = text.split(), [line for line in text.strip().split("\n") if line.strip()]
    found = {name for name, pattern in _MARKS.items() if pattern.search(text)}
    found.add(f"about {2 ** (len(words).bit_length() - 1) if words else 0} words")
    found.add(f"begins with “{' '.join(words[:2])}”")
    if lines and len(lines[-1].split()) <= 6:
        found.add(f"ends with “{lines[-1].strip()}”")
    return frozenset(found)


def _weights(pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> dict[str, float]:
    """The log-odds of each mark for the first model, with half a count each way."""
    first, second = Counter[str](), Counter[str]()
    for one, two in pairs:
        first.update(one)
        second.update(two)
    n = len(pairs) + 1
    return {
        mark: log((first[mark] + 0.5) / (n - first[mark] - 0.5)) - log((second[mark] + 0.5) / (n - second[mark] - 0.5))
        for mark in {*first, *second}
    }


def _tells(pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> tuple[Tell, ...]:
    n = len(pairs)
    marks = {mark for pair in pairs for marks in pair for mark in marks}
    found = [
        Tell(mark, sum(mark in one for one, _ in pairs) / n, sum(mark in two for _, two in pairs) / n) for mark in marks
    ]
    clear = [tell for tell in found if abs(tell.share_1 - tell.share_2) >= _CLEAR]
    return tuple(sorted(clear, key=lambda tell: (-abs(tell.share_1 - tell.share_2), tell.mark))[:_MOST_TELLS])
