"""Rows with one question and one answer in fields of their own: Alpaca, Dolly, prompt/completion, columns of a table.

A row may also have a context, earlier turns, a system message and the answer's reasoning. The context follows the
question after an empty line, as Alpaca's `input` does.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from train.data.conversations import ChatMessage
from train.data.openai_rows import REASONING, Items, Messages, conversation_items, read_messages
from train.data.row_fields import RowError, field_text, text_of
from train.data.turn_rows import pair_of, parse_json, read_turns

Row = Mapping[str, Any]

_CONTEXT = ("input", "context")
_TEXT_OF_LISTS = frozenset(
    {"prompt", "completion", "chosen", "rejected", "chosen_response", "rejected_response", "chosen_messages",
     "rejected_messages"}
)  # fmt: skip
_JSON = re.compile(r"\s*(?:\[\s*)?\{")


def alpaca_row(line: int, row: Row) -> Items:
    """`{"instruction", "input"?, "output", "system"?, "history"?}`.

    Raises:
        RowError: the row cannot be read.
    """
    yield from question_items(line, row, "instruction", "output")


def question_answer_row(line: int, row: Row) -> Items:
    """A question and an answer by any of their usual names.

    Raises:
        RowError: the row cannot be read.
    """
    pair = pair_of(row)
    if pair is None:
        raise RowError("no question with an answer", 'write {"question": …, "answer": …}', "wrong-type")
    yield from question_items(line, row, *pair)


def prompt_completion_row(line: int, row: Row) -> Items:
    """`{"prompt", "completion"}`, texts or messages.

    Raises:
        RowError: the row cannot be read.
    """
    yield from question_items(line, row, "prompt", "completion")


def columns_row(line: int, row: Row, question: str, answer: str, system: str | None, *, whole: bool) -> Items:
    """A question and its answer from two named fields, with a system message from a third.

    Args:
        whole: also read a context, earlier turns and a system message by their usual names.

    Raises:
        RowError: one of them is not a text.
    """
    if whole:
        yield from question_items(line, row, question, answer)
        return
    messages = [
        {"role": "user", "content": field_text(row, question)},
        {"role": "assistant", "content": field_text(row, answer)},
    ]
    used = [question, answer]
    if system and row.get(system):
        messages.insert(0, {"role": "system", "content": field_text(row, system)})
        used.append(system)
    yield from conversation_items(line, row, read_messages(messages), *used)


def question_items(line: int, row: Row, question: str, answer: str) -> Items:
    """The example of a row's question and answer, and the fields that are not read.

    Raises:
        RowError: one of them is neither a text nor messages.
    """
    for name in (question, answer):
        if name not in row:
            raise RowError(f"no `{name}`", f'write {{"{question}": …, "{answer}": …}}', "wrong-type")
    prompt, used = read_question(row, question)
    reasoning = {name: row[name] for name in REASONING if isinstance(row.get(name), str) and row[name].strip()}
    if is_messages(row[answer], answer):  # messages have their own `reasoning_content`
        reasoning = {}
    completion = messages_or_text(row[answer], answer, "assistant", reasoning)
    used += [answer, *(name for name in reasoning if name not in completion.unknown)]
    yield from conversation_items(line, row, joined(prompt, completion), *used)


def read_question(row: Row, name: str) -> tuple[Messages, list[str]]:
    """The messages before an answer, without the system message, and the fields that they come from.

    Raises:
        RowError: one of them cannot be read.
    """
    value = row[name]
    if is_messages(value, name):
        return messages_or_text(value, name, "user"), [name]
    parts = [field_text(row, name)]
    used = [name, *(field for field in ("history", *_CONTEXT) if field != name and field in row and not row[field])]
    for field in _CONTEXT:
        if field != name and row.get(field) and not isinstance(row[field], Mapping):
            parts.append(_context(row, field))
            used.append(field)
    earlier = read_history(row)
    if row.get("history"):
        used.append("history")
    question = read_messages([{"role": "user", "content": "\n\n".join(part for part in parts if part)}])
    return joined(earlier, question), used


def _context(row: Row, name: str) -> str:
    passages = row[name]
    if isinstance(passages, list) and all(isinstance(passage, str) for passage in passages):
        return "\n\n".join(text_of(passage).strip() for passage in passages)
    return field_text(row, name)


def read_history(row: Row) -> Messages:
    """The earlier turns in `history`: pairs [question, answer], or messages.

    Raises:
        RowError: they are something else.
    """
    history = row.get("history") or []
    if isinstance(history, str):
        history = parse_json(history, "history")
    if not isinstance(history, list):
        raise RowError("`history` is not a list", "give pairs [question, answer]", "wrong-type")
    turns: list[Any] = []
    for entry in history:
        if isinstance(entry, Mapping):
            turns.append(entry)
        elif isinstance(entry, list) and len(entry) == 2:
            roles = zip(("user", "assistant"), entry, strict=True)
            turns += [{"role": role, "content": text_of(text).strip()} for role, text in roles]
        else:
            raise RowError("an entry of `history` is not a pair", "give pairs [question, answer]", "wrong-type")
    return read_turns(turns)


def is_messages(value: Any, name: str) -> bool:
    """Whether a field holds messages: a list, one message, or the text of such a list, as tables have it."""
    if isinstance(value, str):
        return name in _TEXT_OF_LISTS and bool(_JSON.match(value)) and _looks_like_messages(value)
    if isinstance(value, list) and value and all(isinstance(part, Mapping) and "type" in part for part in value):
        return any("role" in part or "from" in part for part in value)  # else they are the parts of one text
    if isinstance(value, Mapping):
        return any(key in value for key in ("role", "from", "messages"))
    return isinstance(value, list)


def _looks_like_messages(text: str) -> bool:
    try:
        parsed = parse_json(text, "")
    except RowError:
        return False
    shapes = ({"role", "content"}, {"from", "value"}, {"messages"})
    items = parsed if isinstance(parsed, list) else [parsed]
    return all(isinstance(item, Mapping) and any(shape <= item.keys() for shape in shapes) for item in items)


def messages_or_text(value: Any, name: str, role: str, more: Mapping[str, Any] | None = None) -> Messages:
    """Messages, or a text as one message of `role` with the fields in `more`.

    Raises:
        RowError: it is neither.
    """
    if not is_messages(value, name):
        return read_messages([{"role": role, "content": field_text({name: value}, name), **(more or {})}])
    turns = parse_json(value, name) if isinstance(value, str) else value
    beside: list[str] = []
    if isinstance(turns, Mapping) and isinstance(turns.get("messages"), list):
        beside = [str(key) for key, item in turns.items() if key != "messages" and item]
        turns = turns["messages"]
    turns = turns if isinstance(turns, list) else [turns]
    if not all(isinstance(turn, Mapping) for turn in turns):
        mend = f'write a text or [{{"role": …, "content": …}}] as `{name}`, and several answers in a row each'
        raise RowError(f"`{name}` is a list, but not of messages", mend, "wrong-type")
    read = read_turns(turns)
    return replace(read, unknown=(*read.unknown, *beside))


def joined(*parts: Messages) -> Messages:
    """Messages one after the other."""
    messages: list[ChatMessage] = []
    unweighted: set[int] = set()
    unknown: set[str] = set()
    for part in parts:
        unweighted |= {len(messages) + position for position in part.unweighted}
        unknown |= set(part.unknown)
        messages += part.messages
    tools = next((part.tools for part in parts if part.tools), ())
    notes = frozenset().union(*(part.notes for part in parts))
    return Messages(tuple(messages), frozenset(unweighted), tuple(sorted(unknown)), tools, notes)
