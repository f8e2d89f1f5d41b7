"""Questions that Chat and Compare offer: a model's own examples, otherwise stored prompts, otherwise general ones."""

from collections.abc import Sequence
from html import escape

from evals.votes.prompts import prompts
from models.database import Database
from models.spec import ModelSpec

_SHOWN = 4
_LONGEST = 90  # characters; a longer prompt is not an example that one reads at a glance
_GENERAL = (
    "What can you help me with?",
    "Write a short reply to a complaint.",
    "Explain photosynthesis in two sentences.",
)


def example_questions(database: Database, specs: Sequence[ModelSpec]) -> tuple[str, ...]:
    """Up to four questions for these models; the first model with examples of its own decides."""
    for spec in specs:
        if spec.bot and spec.bot.examples:
            return spec.bot.examples[:_SHOWN]
    stored = (" ".join(prompt.question.split()) for prompt in prompts(database) if len(prompt.messages) == 1)
    short = list(dict.fromkeys(question for question in stored if 0 < len(question) <= _LONGEST))
    return tuple(short[:_SHOWN]) or _GENERAL


def examples_html(questions: Sequence[str], box: str) -> str:
    """Buttons that send these questions through the message box with the id `box`; page.js does it."""
    buttons = "".join(
        f"<button type='button' class='chip' data-parley='ask' data-box='{box}'>{escape(question)}</button>"
        for question in questions
    )
    return f"<div class='examples' role='group' aria-label='Example questions'>{buttons}</div>" if buttons else ""
