"""The formats of training data rows, and how each becomes a conversation, a preference pair or a labelled answer.

| format | a row |
|---|---|
| `openai-preference` | `{"input": {"messages"}, "preferred_output", "non_preferred_output"}` |
| `preference` | `{"prompt"?, "chosen", "rejected"}`, texts or messages; `{"messages", "rejected_response"}`, … |
| `kto` | `{"prompt", "completion", "label": true or false}`, or any conversation with such a label |
| `openai` | `{"messages": [{"role", "content"}], "tools"?}` |
| `sharegpt` | `{"conversations": [{"from", "value"}], "system"?, "tools"?}` |
| `gemini` | `{"contents": [{"role", "parts": [{"text"}]}], "systemInstruction"?}` |
| `turns` | `{"turns": […]}`: alternating texts, `{"user", "assistant"}` pairs, or `{"role" or "speaker", "text"}` |
| `alpaca` | `{"instruction", "input"?, "output", "system"?, "history"?}` |
| `prompt-completion` | `{"prompt", "completion"}`, texts or messages |
| `question-answer` | `{"question", "answer"}`, `{"query", "response"}`, `{"instruction", "context", "response"}`, … |

It handles rows, not files. A field beside the conversation that is not read becomes an `UnreadField`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.chat.messages import Message
from train.data.conversations import Conversation, Example, Preference
from train.data.gemini_rows import gemini_row, is_gemini
from train.data.labelled_rows import label_field, labelled_items
from train.data.openai_rows import Items, chat_row, preference_row
from train.data.preference_rows import is_preference, trl_preference_row
from train.data.question_rows import alpaca_row, columns_row, prompt_completion_row, question_answer_row
from train.data.row_fields import RowError
from train.data.turn_rows import TURNS, is_sharegpt, pair_of, sharegpt_row, turns_row

__all__ = ["Format", "columns_items", "detect", "formats", "names", "with_system"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """A format: its name, whether a row has it, and the function that reads a row (and may raise `RowError`)."""

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[int, Row], Items]


def formats() -> tuple[Format, ...]:
    """All formats, in the order in which they are tried. The first that fits is used."""
    return (
        Format("openai-preference", lambda row: "preferred_output" in row or "non_preferred_output" in row,
               preference_row),
        Format("preference", is_preference, trl_preference_row),
        Format("kto", lambda row: label_field(row) is not None and _conversation_of(row) is not None, _kto_row),
        *_conversations(),
    )  # fmt: skip


def _conversations() -> tuple[Format, ...]:
    return (
        Format("sharegpt", is_sharegpt, sharegpt_row),
        Format("gemini", is_gemini, gemini_row),
        Format("openai", lambda row: "messages" in row, chat_row),
        Format("turns", lambda row: any(isinstance(row.get(name), list) for name in TURNS), turns_row),
        Format("alpaca", lambda row: "instruction" in row and "output" in row, alpaca_row),
        Format("prompt-completion", lambda row: "prompt" in row and "completion" in row, prompt_completion_row),
        Format("question-answer", lambda row: pair_of(row) is not None, question_answer_row),
    )


def _conversation_of(row: Row) -> Format | None:
    return next((candidate for candidate in _conversations() if candidate.fits(row)), None)


def _kto_row(line: int, row: Row) -> Items:
    conversation = _conversation_of(row)
    if conversation is None:
        raise RowError("no answer", 'write {"prompt": …, "completion": …, "label": true or false}', "wrong-type")
    return labelled_items(line, row, conversation.read)


def names() -> tuple[str, ...]:
    """The formats' names, for `--format`."""
    return tuple(row_format.name for row_format in formats())


def detect(row: Any) -> Format | None:
    """The format of a row; None if it is unknown."""
    if not isinstance(row, Mapping):
        return None
    return next((candidate for candidate in formats() if candidate.fits(row)), None)


def columns_items(line: int, row: Row, question: str, answer: str, system: str | None, *, whole: bool) -> Items:
    """The example of a table's row by named columns (`question_rows.columns_row`), with its label if it has one."""

    def read(line: int, row: Row) -> Items:
        return columns_row(line, row, question, answer, system, whole=whole)

    named = (question, answer, system)
    labelled = (name := label_field(row)) is not None and name not in named
    return labelled_items(line, row, read) if labelled else read(line, row)


def with_system(item: Example | Preference, system: str | None) -> Example | Preference:
    """The example or pair, with this system message if it has none."""
    messages = item.prompt if isinstance(item, Preference) else item.conversation.messages
    if not system or any(message.role == "system" for message in messages):
        return item
    messages = (Message(role="system", content=system), *messages)
    if isinstance(item, Preference):
        return replace(item, prompt=messages)
    conversation = Conversation(messages, item.conversation.tools)
    return replace(item, conversation=conversation, unweighted=frozenset(place + 1 for place in item.unweighted))
