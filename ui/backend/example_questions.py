"""The example questions in Chat and Compare: a model's own, otherwise stored prompts, otherwise general ones."""

from collections.abc import Sequence
from html import escape

from evals.votes.prompts import prompts
from models.database import Database
from models.spec import ModelSpec

_MAX_SHOWN = 4
_MAX_CHARACTERS = 90  # longer prompts cannot be read at a glance
_GENERAL = (
    "What can you help me with?",
    "Write a short reply to a complaint.",
    "Explain photosynthesis in two sentences.",
)


def example_questions(database: Database, specs: Sequence[ModelSpec]) -> tuple[str, ...]:
    """Up to four questions for these models; those of the first model that has its own examples."""
    for spec in specs:
        if spec.bot and spec.bot.examples:
            return spec.bot.examples[:_MAX_SHOWN]
    stored = (" ".join(prompt.question.split()) for prompt in prompts(database) if len(prompt.messages) == 1)
    short = list(dict.fromkeys(question for question in stored if 0 < len(question) <= _MAX_CHARACTERS))
    return tuple(short[:_MAX_SHOWN]) or _GENERAL


def examples_html(questions: Sequence[str], box: str) -> str:
    """Buttons with these questions as HTML. page.js sends a clicked question through the message box `box`, an id."""
    buttons = "".join(
        f"<button type='button' class='chip' data-parley='ask' data-box='{box}'>{escape(question)}</button>"
        for question in questions
    )
    return f"<div class='examples' role='group' aria-label='Example questions'>{buttons}</div>" if buttons else ""
