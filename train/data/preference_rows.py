"""Rows with a chosen and a rejected answer, as TRL, LLaMA-Factory, ms-swift, axolotl and UltraFeedback write them.

The answers are texts, messages, or whole conversations, whose common beginning is the prompt. A question, messages, a
system message or earlier turns beside them are added to the prompt unless they repeat that beginning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from train.data.conversations import ChatMessage
from train.data.openai_rows import Items, Messages, preference_items, read_system
from train.data.question_rows import joined, messages_or_text, read_history, read_question
from train.data.row_fields import RowError
from train.data.turn_rows import ANSWERS, QUESTIONS, read_turns

Row = Mapping[str, Any]

CHOSEN = ("chosen", "chosen_response", "chosen_messages")
REJECTED = ("rejected", "rejected_response", "rejected_messages")
_CONVERSATIONS = ("messages", "conversations", "conversation")
_BESIDE = ("context", "input", "history")
_COMPLETIONS = ("completion", *ANSWERS)


def is_preference(row: Row) -> bool:
    """Whether a row has a rejected answer, and a chosen answer or a conversation that ends with it."""
    beside = (*CHOSEN, *_CONVERSATIONS, *_COMPLETIONS)
    return _first(row, REJECTED) is not None and _first(row, beside) is not None


def trl_preference_row(line: int, row: Row) -> Items:
    """`{"prompt"?, "chosen", "rejected"}` and its relatives.

    Raises:
        RowError: the row cannot be read.
    """
    beside, used = _messages_beside(row)
    names = [_first(row, CHOSEN) or next((name for name in _COMPLETIONS if name in row and name not in used), None)]
    names.append(_first(row, REJECTED))
    if names[1] is None or (names[0] is None and not beside.messages):
        raise RowError("no two answers", 'write {"prompt": …, "chosen": …, "rejected": …}', "wrong-type")
    rejected = messages_or_text(row[names[1]], names[1], "assistant")
    if names[0] is not None:
        chosen = messages_or_text(row[names[0]], names[0], "assistant")
    elif _is_answer(rejected):  # the conversation ends with the chosen answer
        beside, chosen = _cut(beside, len(beside.messages) - 1)
    else:
        beside, chosen = Messages(()), beside
    prompt, chosen, rejected = _divide(beside, chosen, rejected)
    if not all(message in prompt.messages for message in beside.messages):
        # The answers include a question, so the fields beside them are reported unless they repeat it.
        used = [name for name in used if name not in _BESIDE]
    yield from preference_items(line, row, (prompt, chosen, rejected), (*used, *filter(None, names)), row)


def _first(row: Row, names: Sequence[str]) -> str | None:
    """The first of these fields that holds text or messages; a flag called `rejected` is neither."""
    return next((name for name in names if isinstance(row.get(name), str | list | Mapping)), None)


def _messages_beside(row: Row) -> tuple[Messages, list[str]]:
    """The messages beside both answers, and the fields that they come from."""
    system, used = read_system(row)
    parts, names = [Messages(system)], list(used)
    turns = next((name for name in _CONVERSATIONS if isinstance(row.get(name), list)), None)
    question = _first(row, ("prompt", *QUESTIONS))
    if turns:
        parts.append(read_turns(row[turns]))
        names.append(turns)
    elif question:
        prompt, fields = read_question(row, question)
        parts.append(prompt)
        names += fields
    elif row.get("history"):
        parts.append(read_history(row))
        names.append("history")
    if any(message.role == "system" for part in parts[1:] for message in part.messages):
        parts, names = parts[1:], [name for name in names if name not in used]
    return joined(*parts), names


def _divide(beside: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """The prompt and both answers, of which each may be a whole conversation."""
    if _is_answer(chosen) and _is_answer(rejected):
        last = beside.messages[-1] if beside.messages else None
        answers = (chosen.messages[-1:], rejected.messages[-1:])
        if last is not None and last.role == "assistant" and any(_same((last,), answer) for answer in answers):
            beside, _ = _cut(beside, len(beside.messages) - 1)  # the messages include the chosen answer
        return beside, chosen, rejected
    if _is_answer(rejected):
        common, chosen = _cut(chosen, len(chosen.messages) - 1)
    elif _is_answer(chosen):
        common, rejected = _cut(rejected, len(rejected.messages) - 1)
    else:
        length = _common_length(chosen.messages, rejected.messages)
        (common, chosen), (_, rejected) = _cut(chosen, length), _cut(rejected, length)
    return _with_prompt(beside, common, (*common.messages, *chosen.messages)), chosen, rejected


def _with_prompt(beside: Messages, common: Messages, conversation: Sequence[ChatMessage]) -> Messages:
    """The common beginning of both answers, after the messages beside them that it does not repeat."""
    systems = tuple(message for message in beside.messages if message.role == "system")
    if any(message.role == "system" for message in common.messages):
        systems = tuple(message for message in systems if not _holds(conversation, message))
    rest = [message for message in beside.messages if message.role != "system"]
    if not common.messages:
        return beside
    text = rest[0].content if len(rest) == 1 else ""
    rendered = bool(text) and all(message.content.strip() in text for message in common.messages)
    if rendered or all(_holds(conversation, message) for message in rest):
        return joined(Messages(systems, unknown=beside.unknown), common)
    return joined(beside, common)


def _is_answer(side: Messages) -> bool:
    return not side.messages or side.messages[0].role == "assistant"


def _common_length(chosen: Sequence[ChatMessage], rejected: Sequence[ChatMessage]) -> int:
    """The number of messages that both begin with, up to the last before an answer."""
    most = max(0, min(len(chosen), len(rejected)) - 1)
    pairs = enumerate(zip(chosen[:most], rejected[:most], strict=True))
    length = next((place for place, (left, right) in pairs if not _same((left,), (right,))), most)
    while length and chosen[length - 1].role == "assistant":
        length -= 1
    return length


def _cut(messages: Messages, length: int) -> tuple[Messages, Messages]:
    """The first `length` messages, and the rest."""
    length = max(0, length)
    head, tail = messages.messages[:length], messages.messages[length:]
    unweighted = frozenset(position - length for position in messages.unweighted if position >= length)
    return replace(messages, messages=head, unweighted=frozenset()), replace(
        messages, messages=tail, unweighted=unweighted
    )


def _holds(conversation: Sequence[ChatMessage], message: ChatMessage) -> bool:
    return any(_same((message,), (other,)) for other in conversation)


def _same(left: Sequence[ChatMessage], right: Sequence[ChatMessage]) -> bool:
    """Whether messages are equal but for spaces around their texts."""
    return len(left) == len(right) and all(
        a == b or (type(a) is type(b) and a.role == b.role and a.content.strip() == b.content.strip()
                   and getattr(a, "calls", ()) == getattr(b, "calls", ()))
        for a, b in zip(left, right, strict=True)
    )  # fmt: skip
