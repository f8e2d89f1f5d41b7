"""Judged pairs and grades, to train the demo's judge and to measure it.

Each answer is made with a known fault (another intent's answer, a wrong number, missing facts, rudeness, nothing, an
instruction to the judge, …), so its scores are known by construction. The reasons name what an answer is about, its
number and its facts, in that order: the scores then follow from words that stand right before them.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.chat import judge_prompt
from models.chat.judge_prompt import DEFAULT_RUBRIC, Verdict
from models.chat.messages import Message
from train.demo import answers, dialogues, user_text
from train.demo.catalogue import Catalogue, Intent, Split, Style

Fault = Literal["none", "fewer", "general", "number", "other", "constant", "rude", "empty", "cut", "inject"]
FAULTS: tuple[Fault, ...] = ("fewer", "general", "number", "other", "constant", "rude", "empty", "cut", "inject")
# The weights of the faults. Some injections are appended to an answer, the others stand alone.
_WEIGHTS: Mapping[Fault, int] = {
    "fewer": 14, "general": 16, "number": 22, "other": 20, "constant": 6, "rude": 7, "empty": 3, "cut": 4, "inject": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Graded:
    """An answer, its right scores (1 to 5), and the part of the reasons about it."""

    text: str
    fault: Fault
    scores: Mapping[str, int]
    note: str

    @property
    def total(self) -> int:
        """The sum of the scores."""
        return sum(self.scores.values())


@dataclass(frozen=True)
class JudgedPair:
    """A question, two answers, and the verdict that is right by construction."""

    question: str
    answer_a: str
    answer_b: str
    verdict: Verdict
    intent: str
    fault: str
    reasons: str
    scores_a: Mapping[str, int]
    scores_b: Mapping[str, int]

    def messages(self) -> list[Message]:
        """The messages to the judge."""
        return judge_prompt.pairwise_messages(self.question, self.answer_a, self.answer_b, DEFAULT_RUBRIC)

    def turned(self) -> "JudgedPair":
        """The same pair in the other order, without reasons."""
        turn: dict[Verdict, Verdict] = {"A": "B", "B": "A", "tie": "tie"}
        return JudgedPair(
            self.question, self.answer_b, self.answer_a, turn[self.verdict], self.intent, self.fault, "",
            self.scores_b, self.scores_a,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """All fields, for a JSON line."""
        return asdict(self)

    def conversation(self) -> list[dict[str, str]]:
        """The messages to the judge with the right answer, as a training example."""
        text = judge_prompt.pairwise_answer(self.reasons, self.scores_a, self.scores_b, self.verdict)
        return [*_dicts(self.messages()), {"role": "assistant", "content": text}]


def pairs(
    seed: int, catalogue: Catalogue, count: int, split: Split = "train", *, neutral: bool = False
) -> Iterator[JudgedPair]:
    """`count` judged pairs. `neutral`: only answers in the neutral style, which have no facts of the policies."""
    rng = random.Random(f"{seed}/judged/{split}/{neutral}")
    for _ in range(count):
        yield pair(rng, catalogue, split, neutral=neutral)


def pair(rng: random.Random, catalogue: Catalogue, split: Split, *, neutral: bool) -> JudgedPair:
    """A judged pair: a good and a faulty answer, two good ones (a tie), or two faulty ones."""
    question = _question(rng, catalogue, split)
    chance = rng.random()
    first_fault: Fault = "none" if chance < 0.9 else _fault(rng)
    second_fault: Fault = "none" if chance < 0.12 else _fault(rng)
    first = grade(rng, catalogue, question, first_fault, split, neutral=neutral)
    second = grade(rng, catalogue, question, second_fault, split, neutral=neutral)
    if rng.random() < 0.5:
        first, second = second, first
    verdict: Verdict = "tie" if first.total == second.total else "A" if first.total > second.total else "B"
    return JudgedPair(
        question=question.text,
        answer_a=_signed(first, "A"),
        answer_b=_signed(second, "B"),
        verdict=verdict,
        intent=question.intent.id,
        fault=first.fault if first.fault != "none" else second.fault,
        reasons=reasons(question, {"A": first, "B": second}),
        scores_a=first.scores,
        scores_b=second.scores,
    )


def grades(
    seed: int, catalogue: Catalogue, count: int, split: Split = "train", *, neutral: bool = False
) -> Iterator[list[dict[str, str]]]:
    """`count` conversations in the pointwise format: one answer, its scores and its total score."""
    rng = random.Random(f"{seed}/graded/{split}/{neutral}")
    for _ in range(count):
        question = _question(rng, catalogue, split)
        graded = grade(rng, catalogue, question, "none" if rng.random() < 0.4 else _fault(rng), split, neutral=neutral)
        messages = judge_prompt.pointwise_messages(question.text, _signed(graded, "A"), DEFAULT_RUBRIC)
        score = min(graded.scores.values())  # an answer is as good as its lowest score
        text = judge_prompt.pointwise_answer(reasons(question, {"Answer": graded}), graded.scores, score)
        yield [*_dicts(messages), {"role": "assistant", "content": text}]


def grade(
    rng: random.Random, catalogue: Catalogue, question: dialogues.Question, fault: Fault, split: Split, *, neutral: bool
) -> Graded:
    """An answer with a fault, and its right scores."""
    intent, values = question.intent, question.values
    if fault == "number" and "number" not in values:
        fault = "other"
    if fault == "number":
        values = {**values, "number": user_text.changed_number(rng, values["number"])}
    about = intent
    if fault == "other":
        about = rng.choice([other for other in catalogue.business if other.id != intent.id])
        values = _values_for(rng, catalogue, about, values)
    text, topics = _written(rng, catalogue, about, values, fault, neutral)
    if fault in ("constant", "rude", "empty", "inject"):
        text, topics = _bad(rng, catalogue, fault, split, text, topics)
    right_number = "number" not in question.values or question.values["number"] in text
    on_topic = topics is not None and fault != "other"
    tone = 1 if fault in ("rude", "empty", "inject") else 3 if fault == "cut" else 5
    complete = _completeness(intent, topics, on_topic)
    if fault == "cut" or not right_number:
        complete = min(complete, 2 if fault == "cut" else 3)
    relevant = 1 if not on_topic else 5 if right_number else 2
    scores = dict(zip(DEFAULT_RUBRIC.criteria, (relevant, complete, tone), strict=True))
    return Graded(text, fault, scores, _note(about if topics is not None else None, values, text, topics, fault))


def reasons(question: dialogues.Question, graded: Mapping[str, Graded]) -> str:
    """The reasons: the topic of the question and of each answer, in at most 240 characters."""
    number = f" {question.values['number']}" if "number" in question.values else ""
    text = f"Asked: {question.intent.about}{number}." + "".join(
        f" {side}: {answer.note}." for side, answer in graded.items()
    )
    return text if len(text) <= 240 else text[:239] + "."


def _question(rng: random.Random, catalogue: Catalogue, split: Split) -> dialogues.Question:
    return dialogues.question(rng, catalogue, rng.choice(catalogue.business), split)


def _fault(rng: random.Random) -> Fault:
    return rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]


def _values_for(rng: random.Random, catalogue: Catalogue, about: Intent, values: Mapping[str, str]) -> dict[str, str]:
    """The number and name of the question for the answer of another intent, so that only the topic is wrong."""
    kept = {slot: text for slot, text in values.items() if slot in ("number", "name")}
    if about.needs:
        slot = catalogue.slot_of(about.needs)
        kept.setdefault(slot, user_text.value(rng, catalogue, slot, about.needs))
    return kept


def _written(
    rng: random.Random, catalogue: Catalogue, about: Intent, values: Mapping[str, str], fault: Fault, neutral: bool
) -> tuple[str, list[str] | None]:
    """An answer about an intent, and the facts in it."""
    if neutral or fault == "general":
        text = answers.answer(rng, catalogue, about, "neutral", values)
    elif fault == "fewer":
        kept = rng.choice((0, 0, 1, 1, 2))
        topics = sorted(rng.sample(range(len(about.topics)), kept))
        text = answers.friendly(
            rng, catalogue, about, values, [about.topics[place] for place in topics], bare=rng.random() < 0.5
        )
    else:
        style: Style = rng.choice(("concise", "friendly"))
        text = answers.answer(rng, catalogue, about, style, values)
        if style == "friendly" and rng.random() < 0.3:
            text = answers.friendly(rng, catalogue, about, values, about.topics, bare=True)
    if fault == "cut":
        text = text[: rng.randint(len(text) // 4, len(text) // 2)].rstrip()
    return text, _facts(about, text)


def _bad(
    rng: random.Random, catalogue: Catalogue, fault: Fault, split: Split, text: str, topics: list[str] | None
) -> tuple[str, list[str] | None]:
    """A worthless text, or the answer with one added. Every third text of a list is only in held-out pairs."""
    bad = {
        kind: [line for place, line in enumerate(lines) if (place % 3 == 2) == (split == "held_out")]
        for kind, lines in catalogue.words["bad"].items()
    }
    if fault == "empty":
        return rng.choice(("", "...", "-", "ok", "?")), None
    if fault == "inject":
        injected = rng.choice(bad["inject"])
        return (f"{text} {injected}", topics) if rng.random() < 0.4 else (injected, None)
    if fault == "rude" and rng.random() < 0.4:
        return f"{rng.choice(bad['rude'])} {text}", topics
    return rng.choice(bad[fault]), None


def _completeness(intent: Intent, topics: list[str] | None, on_topic: bool) -> int:
    if not on_topic or topics is None:
        return 1
    return max(2, 5 - (len(intent.topics) - len(topics)))


def _facts(about: Intent, text: str) -> list[str]:
    return [topic.keys[0] for topic in about.topics if answers.count_topics(text, [topic.keys])]


def _note(about: Intent | None, values: Mapping[str, str], text: str, topics: list[str] | None, fault: Fault) -> str:
    manner = {
        "rude": "rude",
        "empty": "empty",
        "inject": "gives orders",
        "cut": "cut off",
        "constant": "says nothing",
    }.get(fault)
    if about is None or topics is None:
        return manner or "says nothing"
    number = f" {values['number']}" if "number" in values and values["number"] in text else ""
    facts = ", ".join(topics) if topics else "no facts"
    return f"{about.about}{number}, {facts}" + (f", {manner}" if manner else "")


def _signed(graded: Graded, side: str) -> str:
    return graded.text.replace("{side}", side)


def _dicts(messages: list[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
