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
_MOST_MARKS = 3
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
class StyleMark:
    """A mark of style, and the shares of the two models' answers that have it."""

    mark: str
    share_1: float
    share_2: float


@dataclass(frozen=True)
class StyleAccuracy:
    """How often style alone identifies the model: 0.5 is chance. `low` to `high` is a 95 % interval.

    `tells` are the marks that differ most, at most three.
    """

    model_1: str
    model_2: str
    prompts: int
    accuracy: float
    low: float
    high: float
    tells: tuple[StyleMark, ...]

    @property
    def text(self) -> str:
        """The result in one sentence."""
        accuracy = f"Style alone identifies {self.model_1} and {self.model_2} in {self.accuracy:.0%} of the pairs"
        numbers = f" (95 % interval {self.low:.0%} to {self.high:.0%}; chance is 50 %)"
        marks = "; ".join(f"{mark.mark}: {mark.share_1:.0%} and {mark.share_2:.0%}" for mark in self.tells)
        return f"{accuracy}{numbers}." + (f" The largest differences: {marks}." if marks else "")


def campaign_style(database: Database, name: str) -> list[StyleAccuracy]:
    """The style of every two models of a campaign that were shown on at least 10 prompts."""
    shown = select(BattleRow.pair_id).where(BattleRow.campaign == name, BattleRow.gold.is_(False))
    query = select(PairRow.model_1, PairRow.model_2, PairRow.prompt_id, PairRow.answer_1, PairRow.answer_2)
    by_models: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    with database.read() as session:
        for first, second, prompt, answer_1, answer_2 in session.execute(
            query.where(PairRow.id.in_(shown)).order_by(PairRow.id)
        ):
            if answer_1 and answer_2:
                by_models.setdefault((first, second), {}).setdefault(prompt, (answer_1, answer_2))
    return [
        style_accuracy(models, list(answers.values()))
        for models, answers in sorted(by_models.items())
        if len(answers) >= MIN_PROMPTS
    ]


def style_accuracy(models: tuple[str, str], answers: Sequence[tuple[str, str]]) -> StyleAccuracy:
    """How well style identifies two models. `answers`: the first and the second model's, one pair for each prompt."""
    marks = [(_marks(answer_1), _marks(answer_2)) for answer_1, answer_2 in answers]
    right: list[float] = []
    for fold in range(_FOLDS):
        known = [pair for place, pair in enumerate(marks) if place % _FOLDS != fold]
        weights = _weights(known)
        for marks_1, marks_2 in marks[fold::_FOLDS]:
            gap = sum(weights.get(mark, 0.0) for mark in marks_1) - sum(weights.get(mark, 0.0) for mark in marks_2)
            right.append(1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
    share = share_interval(right, range(len(right)))
    return StyleAccuracy(*models, len(marks), share.mean, share.low, share.high, _clear_marks(marks))


def _marks(text: str) -> frozenset[str]:
    words, lines = text.split(), [line for line in text.strip().split("\n") if line.strip()]
    marks = {name for name, pattern in _MARKS.items() if pattern.search(text)}
    marks.add(f"about {2 ** (len(words).bit_length() - 1) if words else 0} words")
    marks.add(f"begins with “{' '.join(words[:2])}”")
    if lines and len(lines[-1].split()) <= 6:
        marks.add(f"ends with “{lines[-1].strip()}”")
    return frozenset(marks)


def _weights(pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> dict[str, float]:
    """The log-odds of each mark for the first model, with half a count each way."""
    first, second = Counter[str](), Counter[str]()
    for marks_1, marks_2 in pairs:
        first.update(marks_1)
        second.update(marks_2)
    n = len(pairs) + 1
    return {
        mark: log((first[mark] + 0.5) / (n - first[mark] - 0.5)) - log((second[mark] + 0.5) / (n - second[mark] - 0.5))
        for mark in {*first, *second}
    }


def _clear_marks(pairs: Sequence[tuple[frozenset[str], frozenset[str]]]) -> tuple[StyleMark, ...]:
    n = len(pairs)
    marks = {mark for pair in pairs for marks in pair for mark in marks}
    measured = [
        StyleMark(
            mark, sum(mark in marks_1 for marks_1, _ in pairs) / n, sum(mark in marks_2 for _, marks_2 in pairs) / n
        )
        for mark in marks
    ]
    clear = [mark for mark in measured if abs(mark.share_1 - mark.share_2) >= _CLEAR]
    return tuple(sorted(clear, key=lambda mark: (-abs(mark.share_1 - mark.share_2), mark.mark))[:_MOST_MARKS])
