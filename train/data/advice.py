"""A prompt, retrieval or fine-tuning: one table of questions, of which the first that applies decides.

Sources: OpenAI, "Optimizing LLM accuracy" (developers.openai.com); Ovadia et al., "Fine-Tuning or Retrieval?"
(arXiv:2312.05934: retrieval beats tuning for facts). It is advice, not a measurement.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Choice = Literal["prompting", "retrieval", "fine-tuning"]
_FEWEST = 50  # examples from which a style can be learnt


@dataclass(frozen=True)
class Answers:
    """What the data does not show; None where the question was not answered.

    `knowledge_changes`: "never", "monthly", "weekly" or "daily". `tried`: the most advanced approach so far ("nothing",
    "prompt", "few-shot", "retrieval"). `latency_ms`: the longest acceptable wait for the first token.
    """

    tried: str | None = None
    citations: bool | None = None
    knowledge_changes: str | None = None
    documents: bool | None = None
    latency_ms: int | None = None
    requests_per_day: int | None = None
    at_home: bool | None = None


@dataclass(frozen=True)
class Question:
    """One row of the table: where `applies` holds, `choice` is right, for this `reason`.

    `answer` names the field of `Answers`; `choices` are the answers offered in a terminal, none for a number.
    """

    answer: str
    text: str
    choices: tuple[str, ...]
    applies: Callable[[Answers, int], bool]
    choice: Choice
    reason: str


def _wants_retrieval(wanted: bool | None, answers: Answers) -> bool:
    return bool(wanted) and answers.tried != "retrieval"


QUESTIONS: tuple[Question, ...] = (
    Question(
        "tried", "What have you tried so far?", ("nothing", "prompt", "few-shot", "retrieval"),
        lambda answers, examples: answers.tried in (None, "nothing"),
        "prompting", "No prompt has been tried yet. It costs least, and everything else is measured against it.",
    ),
    Question(
        "citations", "Must answers name their source?", ("yes", "no"),
        lambda answers, examples: _wants_retrieval(answers.citations, answers),
        "retrieval", "Answers must name their source. A trained model cannot say where it learnt a fact.",
    ),
    Question(
        "knowledge_changes", "How often do the facts change?", ("never", "monthly", "weekly", "daily"),
        lambda answers, examples: _wants_retrieval(answers.knowledge_changes in ("weekly", "daily"), answers),
        "retrieval", "The facts change faster than a model can be retrained.",
    ),
    Question(
        "documents", "Are there documents that hold the facts?", ("yes", "no"),
        lambda answers, examples: _wants_retrieval(answers.documents, answers),
        "retrieval", "Documents hold the facts. Looking them up is more reliable than learning them.",
    ),
    Question(
        "examples", "", (), lambda answers, examples: examples < _FEWEST,
        "prompting", "{examples:,} examples are too few to train on. Put some of them into the prompt.",
    ),
    Question(
        "latency_ms", "", (), lambda answers, examples: answers.latency_ms is not None and answers.latency_ms < 1_000,
        "fine-tuning", "{latency_ms:,} ms leave no time for long prompts. A small tuned model is fast.",
    ),
    Question(
        "requests_per_day", "", (), lambda answers, examples: (answers.requests_per_day or 0) >= 10_000,
        "fine-tuning", "At {requests_per_day:,} requests a day, short prompts on a small model pay for the training.",
    ),
    Question(
        "at_home", "Must data stay on your own machines?", ("yes", "no"),
        lambda answers, examples: bool(answers.at_home),
        "fine-tuning", "Data must stay on your machines. Small local models gain most from training.",
    ),
    Question(
        "examples", "", (), lambda answers, examples: examples >= _FEWEST,
        "fine-tuning", "Prompts have been tried, and {examples:,} examples are enough to teach a style or a format.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """What to start with and why; `unanswered` names the questions that were left open."""

    choice: Choice
    reasons: tuple[str, ...]
    unanswered: tuple[str, ...]
    examples: int

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def advise(examples: int, answers: Answers | None = None) -> Advice:
    """What to start with, given the number of good examples and the answers to the questions."""
    answers = answers or Answers()
    applying = [question for question in QUESTIONS if question.applies(answers, examples)]
    choice = applying[0].choice
    values = asdict(answers) | {"examples": examples}
    return Advice(
        choice=choice,
        reasons=tuple(question.reason.format(**values) for question in applying if question.choice == choice),
        unanswered=tuple(name for name, value in asdict(answers).items() if value is None),
        examples=examples,
    )
