"""Rows in OpenAI's fine-tuning formats: chat messages with tools and weights, and preference pairs for DPO.

It checks the format only; `checks` checks whether a conversation can be trained on. Format:
platform.openai.com/docs/guides/supervised-fine-tuning and …/direct-preference-optimization.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.chat.messages import Message
from train.data.conversations import (
    ChatMessage,
    Conversation,
    Example,
    Preference,
    Problem,
    ReasonedAnswer,
    TextParts,
    ToolUse,
)
from train.data.row_fields import RowError, field_text, metadata_of, require_valid_unicode, text_of, text_parts
from train.data.row_flags import MEDIA, refuse_media, unread_flags
from train.data.tool_calls import RESULT_ROLES, read_tool_calls, read_tool_result, read_tools
from train.data.tool_texts import listed_tools, open_tool_texts, tool_text_notes, without_tools
from train.data.unread_fields import RowNote, UnreadField, unread_fields, unread_keys

Items = Iterator[Example | Preference | Problem | UnreadField | RowNote]

REASONING = ("reasoning_content", "reasoning", "thinking")  # in order of preference
SYSTEM = ("system", "system_prompt", "system_message")
_LEARNT = ("loss", "training", "train")  # other programs' flags with the meaning of OpenAI's `weight`
_KNOWN = frozenset({"role", "content", "weight", "tool_calls", "tool_call_id", "function_call", "refusal"})
# The role names of other programs.
ROLES = {
    "human": "user", "user": "user", "prompter": "user", "question": "user", "customer": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "chatbot": "assistant",
    "model": "assistant", "bard": "assistant", "answer": "assistant", "agent": "assistant", "ai": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_SHAPE = 'write {"messages": [{"role": …, "content": …}, …]}'


@dataclass(frozen=True)
class Messages:
    """The messages of a row, the positions with weight 0, and the keys that are not used.

    `tools` and `notes`: as in `tool_texts.ToolTexts`.
    """

    messages: tuple[ChatMessage, ...]
    unweighted: frozenset[int] = frozenset()
    unknown: tuple[str, ...] = ()
    tools: tuple[Any, ...] = ()
    notes: frozenset[str] = frozenset()


def chat_row(line: int, row: Mapping[str, Any]) -> Items:
    """`{"messages": […], "tools": […]}`, and a system message beside the messages.

    Raises:
        RowError: the row cannot be read.
    """
    if not isinstance(row.get("messages"), list):
        raise RowError("no `messages` list", _SHAPE, "wrong-type")
    yield from conversation_items(line, row, read_messages(row["messages"]), "messages")


def conversation_items(line: int, row: Mapping[str, Any], read: Messages, *used: str) -> Items:
    """The example in a row's messages, with the row's system message if they have none, and its unread fields.

    Raises:
        RowError: the tools or the system message cannot be read, or an image belongs to the text.
    """
    system, named = read_system(row)
    used = (*used, *(name for name in SYSTEM if name in row and not row[name]))
    if system and not any(message.role == "system" for message in read.messages):
        shifted = frozenset(position + 1 for position in read.unweighted)
        listed = read.tools or listed_tools(system[0].content)
        notes = read.notes | ({"read"} if listed else set())
        read = replace(read, messages=(*system, *read.messages), unweighted=shifted, tools=listed, notes=notes)
        used = (*used, *named)
    yield from unread_keys(line, read.unknown)
    yield from unread_parts(line, row, used, read.messages)
    yield from tool_text_notes(line, read.notes)
    tools = read_tools(row)
    if read.tools and not tools:
        tools, read = read_tools({"tools": list(read.tools)}), _tools_as_field(read)
    yield Example(line, Conversation(read.messages, tools), read.unweighted, metadata_of(row, *used))


def _tools_as_field(read: Messages) -> Messages:
    """The messages without the list of tools in the system message; an empty system message is left out."""
    messages: list[ChatMessage] = []
    unweighted: set[int] = set()
    for position, message in enumerate(read.messages):
        text = without_tools(message.content) if message.role == "system" else message.content
        if message.role == "system" and not text:
            continue
        unweighted |= {len(messages)} if position in read.unweighted else set()
        messages.append(message if text == message.content else Message(role="system", content=text))
    return replace(read, messages=tuple(messages), unweighted=frozenset(unweighted))


def read_system(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The system message beside a row's conversation, and the field that has it; empty if there is none.

    Raises:
        RowError: it is not text.
    """
    name = next((name for name in SYSTEM if row.get(name)), None)
    text = field_text(row, name) if name else ""
    return ((Message(role="system", content=text),), (str(name),)) if text else ((), ())


def unread_parts(
    line: int, row: Mapping[str, Any], used: Sequence[str], messages: Sequence[ChatMessage]
) -> Iterator[UnreadField]:
    """The fields of a row beside its messages that are not read.

    Raises:
        RowError: the row contains an image, video or audio that belongs to the text.
    """
    media = list(refuse_media(line, row, used, messages))
    yield from media
    yield from unread_flags(line, row, used)
    yield from unread_fields(line, row, (*used, *MEDIA, *(field.name for field in media)), messages)


def preference_row(line: int, row: Mapping[str, Any]) -> Items:
    """`{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}`.

    Raises:
        RowError: the row cannot be read.
    """
    given = row.get("input")
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), list):
        raise RowError("no `input` with a `messages` list", 'write {"input": {"messages": […]}, …}', "wrong-type")
    parts = [read_messages(given["messages"]), _side(row, "preferred_output"), _side(row, "non_preferred_output")]
    yield from preference_items(line, row, parts, ("input", "preferred_output", "non_preferred_output"), given)


def preference_items(
    line: int, row: Mapping[str, Any], parts: Sequence[Messages], used: Sequence[str], tools: Mapping[str, Any]
) -> Items:
    """The pair of a prompt, a chosen and a rejected answer, and the unread fields; `tools` contains the tools.

    Raises:
        RowError: the tools cannot be read, or an image belongs to the text.
    """
    prompt, chosen, rejected = (part.messages for part in parts)
    unread = {name for part in parts for name in part.unknown}
    if any(part.unweighted for part in parts[1:]):
        unread.add("weight")  # both answers are compared as a whole
    yield from unread_keys(line, sorted(unread))
    yield from unread_parts(line, row, used, (*prompt, *chosen, *rejected))
    notes: frozenset[str] = frozenset()
    yield from tool_text_notes(line, notes.union(*(part.notes for part in parts)))
    listed = read_tools(tools)
    if parts[0].tools and not listed:
        listed, prompt = read_tools({"tools": list(parts[0].tools)}), _tools_as_field(parts[0]).messages
    yield Preference(line, prompt, chosen, rejected, listed, metadata_of(row, *used))


def _side(row: Mapping[str, Any], name: str) -> Messages:
    if not isinstance(row.get(name), list):
        raise RowError(f"no `{name}` list", f'write "{name}": [{{"role": "assistant", "content": …}}]', "wrong-type")
    return read_messages(row[name])


def read_messages(raw: Sequence[Any], strict: bool = True) -> Messages:
    """Messages in the API's format; function calls of the older API become tool calls.

    Args:
        raw: the messages.
        strict: refuse a weight of 0 on messages that are never learnt, as OpenAI does.

    Raises:
        RowError: one of them cannot be read; the message says which.
    """
    messages: list[ChatMessage] = []
    unweighted: set[int] = set()
    unknown: set[str] = set()
    opened = open_tool_texts(raw)
    for position, item in enumerate(opened.messages):
        try:
            message = _message(item, messages, position)
            if not _is_learnt(item, message, strict):
                unweighted.add(position)
        except RowError as error:
            raise RowError(f"message {position + 1}: {error.message}", error.mend, error.code) from error
        unknown |= _unknown_keys(item, message)
        messages.append(message)
    return Messages(tuple(messages), frozenset(unweighted), tuple(sorted(unknown)), opened.tools, opened.notes)


def _message(raw: Any, before: list[ChatMessage], position: int) -> ChatMessage:
    if not isinstance(raw, Mapping):
        raise RowError("not an object", 'write {"role": …, "content": …}', "wrong-type")
    role = raw.get("role")
    if role not in ("user", "assistant", "tool"):
        role = ROLES.get(str(role).lower(), role)
    if role in ("tool", *RESULT_ROLES):
        return read_tool_result(raw, before)
    if role not in ("system", "user", "assistant"):
        raise RowError(f"unknown role {role!r}", "use system, user, assistant or tool", "unknown-role")
    calls = read_tool_calls(raw, position) if role == "assistant" else ()
    if role != "assistant" and (raw.get("tool_calls") or raw.get("function_call")):
        raise RowError(f"a {role} message has tool calls", "only assistant messages may call tools", "bad-tool-call")
    name = _reasoning_key(raw) if role == "assistant" else None
    reasoning = require_valid_unicode(raw[name]).strip() if name else ""
    if calls:
        return ToolUse(content=text_of(raw.get("content") or ""), calls=calls, reasoning=reasoning)
    content = raw.get("refusal") if raw.get("refusal") and not raw.get("content") else raw.get("content")
    if reasoning:
        return ReasonedAnswer(content=text_of(content), reasoning=reasoning)
    return _text_message(role, content)


def _text_message(role: Any, content: Any) -> Message:
    text = text_of(content)
    if isinstance(content, list) and len(content) > 1:
        return TextParts(role=role, content=text, parts=tuple(text_parts(content)))
    return Message(role=role, content=text)


def _reasoning_key(raw: Mapping[str, Any]) -> str | None:
    return next((name for name in REASONING if isinstance(raw.get(name), str) and raw[name].strip()), None)


def _is_learnt(raw: Mapping[str, Any], message: ChatMessage, strict: bool) -> bool:
    """Whether a message has loss, if it is the assistant's: by `weight`, or by the flags of other programs."""
    weight = raw.get("weight", 1)
    if weight is None:  # a Parquet column that only other rows use
        weight = 1
    if weight not in (0, 1) or (strict and weight == 0 and message.role != "assistant"):
        mend = "use weight 0 or 1, and 0 only for assistant messages"
        raise RowError(f"weight {weight!r} on role {message.role}", mend, "bad-weight")
    off = any(_is_flag(raw.get(name)) and not raw[name] for name in _LEARNT)
    return message.role != "assistant" or (bool(weight) and not off)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))


def _unknown_keys(raw: Mapping[str, Any], message: ChatMessage) -> set[str]:
    """The keys of a message that have a value and are not used."""
    used = set(_KNOWN)
    if message.role == "tool":
        used.add("name")
    if message.role == "assistant" and (name := _reasoning_key(raw)):
        used |= {name, *(other for other in REASONING if raw.get(other) == raw[name])}
    for name in _LEARNT:  # loss on a message that is not the assistant's is not supported
        if _is_flag(raw.get(name)) and (message.role == "assistant" or not raw[name]):
            used.add(name)
    if raw.get("refusal") and raw.get("content"):
        used.discard("refusal")
    return {str(key) for key, value in raw.items() if value not in (None, "", [], {})} - used
