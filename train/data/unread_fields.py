"""Reports fields of rows that contain text and are not read: one warning for each field, with the number of rows.

Labels do not count as text: a category or an id of one word, a number, a date. Nor do fields that repeat the
conversation, such as the first question beside the messages, or the whole conversation as one string.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

from models.quantities import count_noun
from train.data.conversations import ChatMessage, Problem, reasoning_of

Item = TypeVar("Item")

_MOST_REPORTED = 20  # fields; a file with different names in each row must not give a huge report
_REPEATED = 40  # characters: a text of this length inside a message is a repetition, not a coincidence
_WORD, _LETTER = re.compile(r"\S+"), re.compile(r"[^\W\d_]")
_UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{5}")  # scripts without spaces
_NOT_LEARNT = frozenset({"metadata", "tools", "functions", "parallel_tool_calls"})
_FLAGS = ("loss", "training", "train")  # on a message of the user
# Fields that are text by their name, even if they contain one word.
_TEXT_NAMES = frozenset(
    {"system", "system_prompt", "system_message", "question", "query", "prompt", "instruction", "input", "context",
     "history", "messages", "conversations", "answer", "response", "output", "completion", "reply", "chosen",
     "rejected", "chosen_response", "rejected_response", "reasoning_content", "reasoning", "thinking"}
)  # fmt: skip
# One word in such a field is part of the question too, or a worse answer.
_CHOICES = re.compile(r"(?:choice|option|distractor|alternative|candidate)s?(?:_?[a-h\d])?|[a-h]", re.IGNORECASE)
_WORSE = re.compile(r"reject|incorrect|wrong|negative|dispreferred|loser", re.IGNORECASE)


@dataclass(frozen=True)
class UnreadField:
    """A field of one row that is not read: its name, why that matters ("contains text"), and what to do about it."""

    line: int
    name: str
    state: str
    mend: str


@dataclass(frozen=True)
class RowNote:
    """How one row is read where that is a choice: a message about it, what to do, and the code of the problem."""

    line: int
    message: str
    mend: str
    code: str


def unread_fields(
    line: int, row: Mapping[str, Any], used: Sequence[str], messages: Sequence[ChatMessage]
) -> Iterator[UnreadField]:
    """The fields of a row that hold text and are neither used nor a repetition of its messages."""
    for name, value in row.items():
        if name in used or name in _NOT_LEARNT:
            continue
        by_name = name in _TEXT_NAMES or _WORSE.search(str(name))
        texts = [text for text in _strings(value) if text and (by_name or _is_text(text))]
        if _CHOICES.fullmatch(str(name)) and not isinstance(value, bool):
            unread = bool(_missing_choices(value, messages))
        else:
            unread = not all(_is_repeated(text, messages) for text in texts)
        if unread:
            mend = f"put `{name}` into the messages, or under `metadata` if it is no training text"
            yield UnreadField(line, str(name), "contains text", mend)


def unread_keys(line: int, names: Sequence[str], of: str = "messages") -> Iterator[UnreadField]:
    """The fields of a row's messages that are not read."""
    for name in names:
        mend = f"put `{name}` into the content, or remove it"
        if name in _FLAGS:
            mend = f"remove `{name}`: only the assistant's messages are trained on"
        yield UnreadField(line, f"{of}[].{name}", "has a value", mend)


def count_unread(items: Iterator[Item | UnreadField | RowNote]) -> Iterator[Item | Problem]:
    """The same items, and at the end one warning for each unread field and each note, with the number of rows."""
    rows: dict[tuple[str, str], tuple[UnreadField, int]] = {}
    notes: dict[RowNote, tuple[RowNote, int]] = {}
    for item in items:
        if isinstance(item, RowNote):
            key = replace(item, line=0)
            first_note, number = notes.get(key, (item, 0))
            notes[key] = (first_note, number + 1)
        elif isinstance(item, UnreadField):
            first, number = rows.get((item.name, item.state), (item, 0))
            rows[item.name, item.state] = (first, number + 1)
        else:
            yield item
    for note, number in notes.values():
        yield Problem(0, "warning", f"{note.message}: {_where(note.line, number)}", note.mend, note.code)
    groups = sorted(rows.values(), key=lambda group: group[1], reverse=True)
    for first, number in groups[:_MOST_REPORTED]:
        where = _where(first.line, number)
        code = "unknown-key" if "[]." in first.name else "unread-field"
        yield Problem(0, "warning", f"`{first.name[:80]}` {first.state} and is not read: {where}", first.mend, code)
    more = len(groups) - _MOST_REPORTED
    if more > 0:
        mend = "put the text into the messages, or under `metadata`"
        fields = count_noun(more, "more field", "more fields")
        yield Problem(0, "warning", f"{fields} with text not read", mend, "unread-field")


def _where(line: int, number: int) -> str:
    return f"in line {line:,}" if number == 1 else f"in {number:,} rows, the first is line {line:,}"


def _missing_choices(value: Any, messages: Sequence[ChatMessage]) -> list[str]:
    """The choices of a question that its messages do not contain."""
    choices = value if isinstance(value, list) else value.values() if isinstance(value, Mapping) else [value]
    texts = [str(choice).strip() for choice in choices if isinstance(choice, int | float)] + [*_strings(value)]
    return [text for text in texts if text and not any(text in message.content for message in messages)]


def _strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, at any depth."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item.strip()
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


def _is_text(text: str) -> bool:
    """Whether a text has two words with letters side by side, or five characters of a script without spaces."""
    words = (bool(_LETTER.search(word.group())) for word in _WORD.finditer(text))
    return any(left and right for left, right in pairwise(words)) or bool(_UNSPACED.search(text))


def _is_repeated(text: str, messages: Sequence[ChatMessage]) -> bool:
    contents = [content for message in messages for content in (message.content.strip(), reasoning_of(message).strip())]
    contents = [content for content in contents if content]
    if text in contents or (len(text) >= _REPEATED and any(text in content for content in contents)):
        return True
    return bool(contents) and all(content in text for content in contents)  # the conversation as one text
