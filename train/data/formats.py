"""The formats of training data rows, and how each becomes a conversation or a preference pair.

| format | a row |
|---|---|
| `openai` | `{"messages": [{"role", "content"}], "tools"?}` |
| `openai-preference` | `{"input": {"messages"}, "preferred_output", "non_preferred_output"}` |
| `preference` | TRL's `{"prompt"?, "chosen", "rejected"}`, texts or messages |
| `sharegpt` | `{"conversations": [{"from", "value"}], "system"?, "tools"?}` |
| `alpaca` | `{"instruction", "input"?, "output", "system"?, "history"?}` |
| `prompt-completion` | `{"prompt", "completion"}`, texts or messages |
| `question-answer` | `{"question", "answer"}`, `{"query", "response"}`, `{"prompt", "response"}`, … |
| `turns` | `{"turns": […]}`: texts in turn, `{"user", "assistant"}` pairs, or `{"role" or "speaker", "text"}` |

It knows rows, not files.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.messages import Message
from train.data.conversations import ChatMessage, Conversation, Example, Preference, Problem, ToolResult, ToolUse
from train.data.openai_rows import (
    RowError,
    chat_row,
    metadata_of,
    preference_row,
    read_messages,
    read_tools,
    text_of,
)

Row = Mapping[str, Any]
Items = Iterator[Example | Preference | Problem]

# The role names of other tools.
_ROLES = {
    "human": "user", "user": "user", "prompter": "user", "question": "user", "customer": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "bard": "assistant", "answer": "assistant", "agent": "assistant", "ai": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_CALLS, _RESULTS = ("function_call", "tool_call"), ("observation", "tool_response", "tool", "function_response")
_QUESTIONS = ("question", "query", "prompt", "instruction", "user", "input", "q")
_ANSWERS = ("answer", "response", "reply", "assistant", "output", "a")
_TURNS = ("turns", "conversation", "dialogue", "dialog", "conversations")


@dataclass(frozen=True)
class Format:
    """One shape: its name, whether a row has it, and how it is read (which may raise `Wrong`)."""

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[int, Row], Items]


def formats() -> tuple[Format, ...]:
    """All formats, in the order in which they are tried. The first that fits is used."""
    return (
        Format("openai", lambda row: "messages" in row, chat_row),
        Format("openai-preference", lambda row: "preferred_output" in row or "non_preferred_output" in row,
               preference_row),
        Format("preference", lambda row: "chosen" in row and "rejected" in row, _trl_preference),
        Format("sharegpt", _is_sharegpt, _sharegpt),
        Format("turns", lambda row: any(isinstance(row.get(name), list) for name in _TURNS), _turns),
        Format("alpaca", lambda row: "instruction" in row and "output" in row, _alpaca),
        Format("prompt-completion", lambda row: "prompt" in row and "completion" in row, _prompt_completion),
        Format("question-answer", lambda row: _pair_of(row) is not None, _question_answer),
    )  # fmt: skip


def names() -> tuple[str, ...]:
    """The formats' names, for `--format`."""
    return tuple(known.name for known in formats())


def detect(row: Any) -> Format | None:
    """The format of a row; None if it is unknown."""
    if not isinstance(row, Mapping):
        return None
    return next((known for known in formats() if known.fits(row)), None)


def with_system(example: Example, system: str | None) -> Example:
    """The example, with this system message if it has none."""
    messages = example.conversation.messages
    if not system or any(message.role == "system" for message in messages):
        return example
    conversation = Conversation((Message(role="system", content=system), *messages), example.conversation.tools)
    unweighted = frozenset(place + 1 for place in example.unweighted)
    return Example(example.line, conversation, unweighted, example.metadata)


def _example(line: int, messages: Sequence[ChatMessage], row: Row, *used: str) -> Example:
    return Example(line, Conversation(tuple(messages), read_tools(row)), frozenset(), metadata_of(row, *used))


def _text(row: Row, name: str) -> str:
    if name not in row:
        raise RowError(f"no `{name}`", f"give `{name}`", "wrong-type")
    try:
        return text_of(row[name]).strip()
    except RowError as error:
        raise RowError(f"`{name}`: {error.message}", error.mend, error.code) from error


def _message(role: Any, content: str) -> Message:
    return Message(role=role, content=content)


def _system(row: Row) -> list[Message]:
    text = _text(row, "system") if row.get("system") else ""
    return [_message("system", text)] if text else []


def _messages_or_text(value: Any, name: str, role: str) -> tuple[ChatMessage, ...]:
    """A list of messages, or a text as one message of `role`."""
    if isinstance(value, list):
        return read_messages(value).messages
    return (_message(role, _text({name: value}, name)),)


def _trl_preference(line: int, row: Row) -> Items:
    chosen, rejected = (_messages_or_text(row[name], name, "assistant") for name in ("chosen", "rejected"))
    if "prompt" in row:
        prompt = _messages_or_text(row["prompt"], "prompt", "user")
    else:  # the prompt is what both start with
        same = next(
            (place for place, (left, right) in enumerate(zip(chosen, rejected, strict=False)) if left != right),
            min(len(chosen), len(rejected)) - 1,
        )
        prompt, chosen, rejected = chosen[: max(same, 0)], chosen[max(same, 0) :], rejected[max(same, 0) :]
    yield Preference(
        line, (*_system(row), *prompt), chosen, rejected, read_tools(row),
        metadata_of(row, "prompt", "chosen", "rejected", "system"),
    )  # fmt: skip


def _is_sharegpt(row: Row) -> bool:
    turns = row.get("conversations")
    return isinstance(turns, list) and (not turns or (isinstance(turns[0], Mapping) and "from" in turns[0]))


def _sharegpt(line: int, row: Row) -> Items:
    if not isinstance(row.get("conversations"), list):
        raise RowError("no `conversations` list", 'write {"conversations": [{"from", "value"}, …]}', "wrong-type")
    messages: list[ChatMessage] = []
    for place, turn in enumerate(row["conversations"], 1):
        messages.append(_tool_turn(turn, place, messages) or _spoken(turn, place, "from", "value"))
    yield _example(line, [*_system(row), *messages], row, "conversations", "system")


def _tool_turn(turn: Any, place: int, before: list[ChatMessage]) -> ChatMessage | None:
    """A tool call or its result in the usual ShareGPT extension; None for any other turn."""
    who = turn.get("from") if isinstance(turn, Mapping) else None
    if who not in (*_CALLS, *_RESULTS):
        return None
    value = _text(turn, "value")
    if who in _RESULTS:
        return ToolResult(value, _call_answered(before))
    parsed = _json_text(value, f"turn {place}")
    functions = parsed if isinstance(parsed, list) else [parsed]
    calls = [{"id": f"call_{place}_{number}", "function": function} for number, function in enumerate(functions, 1)]
    return read_messages([{"role": "assistant", "content": "", "tool_calls": calls}]).messages[0]


def _call_answered(before: Sequence[ChatMessage]) -> str:
    """The id of the call that the next result answers. Results have no ids here; they follow the order of the calls."""
    for results, message in enumerate(reversed(before)):
        if isinstance(message, ToolUse) and results < len(message.calls):
            return message.calls[results].id
        if not isinstance(message, ToolResult):
            break
    return "none"


def _spoken(turn: Any, place: int, who: str, what: str) -> Message:
    if not isinstance(turn, Mapping) or what not in turn:
        raise RowError(f"turn {place} has no `{what}`", f'write {{"{who}": …, "{what}": …}}', "wrong-type")
    role = _ROLES.get(str(turn.get(who)).lower())
    if role is None:
        mend = "use human and gpt, or user and assistant; write tool calls as OpenAI messages"
        raise RowError(f"turn {place}: unknown role {turn.get(who)!r}", mend, "unknown-role")
    return _message(role, _text(turn, what))


def _alpaca(line: int, row: Row) -> Items:
    messages: list[Message] = _system(row)
    history = row.get("history") or []
    if isinstance(history, str):
        history = _json_text(history, "history")
    if not isinstance(history, list):
        raise RowError("`history` is not a list", "give pairs [question, answer]", "wrong-type")
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowError("an entry of `history` is not a pair", "give pairs [question, answer]", "wrong-type")
        messages += [
            _message("user", text_of(pair[0]).strip()),
            _message("assistant", text_of(pair[1]).strip()),
        ]
    instruction = _text(row, "instruction")
    given = _text(row, "input") if row.get("input") else ""
    question = f"{instruction}\n\n{given}" if given else instruction
    messages += [_message("user", question), _message("assistant", _text(row, "output"))]
    yield _example(line, messages, row, "instruction", "input", "output", "system", "history")


def _prompt_completion(line: int, row: Row) -> Items:
    for name in ("prompt", "completion"):
        if name not in row:
            raise RowError(f"no `{name}`", 'write {"prompt": …, "completion": …}', "wrong-type")
    prompt = _messages_or_text(row["prompt"], "prompt", "user")
    completion = _messages_or_text(row["completion"], "completion", "assistant")
    yield _example(line, [*_system(row), *prompt, *completion], row, "prompt", "completion", "system")


def _pair_of(row: Row) -> tuple[str, str] | None:
    question = next((name for name in _QUESTIONS if name in row), None)
    answer = next((name for name in _ANSWERS if name in row), None)
    return (question, answer) if question and answer else None


def _question_answer(line: int, row: Row) -> Items:
    pair = _pair_of(row)
    if pair is None:
        raise RowError("no question with an answer", 'write {"question": …, "answer": …}', "wrong-type")
    yield columns_example(line, row, *pair, "system" if row.get("system") else None)


def columns_example(line: int, row: Row, question: str, answer: str, system: str | None) -> Example:
    """A question and its answer from two named fields, with a system message from a third.

    Raises:
        RowError: one of them is not a text.
    """
    messages = [_message("user", _text(row, question)), _message("assistant", _text(row, answer))]
    if system and (text := _text(row, system) if row.get(system) else ""):
        messages.insert(0, _message("system", text))
    return _example(line, messages, row, question, answer, *([system] if system else []))


def _turns(line: int, row: Row) -> Items:
    name = next((name for name in _TURNS if isinstance(row.get(name), list)), None)
    if name is None:
        raise RowError("no `turns` list", 'write {"turns": ["question", "answer", …]}', "wrong-type")
    messages: list[Message] = []
    for place, turn in enumerate(row[name], 1):
        if isinstance(turn, str):
            messages.append(_message("assistant" if len(messages) % 2 else "user", text_of(turn).strip()))
        elif isinstance(turn, Mapping) and (pair := _pair_of(turn)):
            messages += [
                _message("user", _text(turn, pair[0])),
                _message("assistant", _text(turn, pair[1])),
            ]
        elif isinstance(turn, Mapping):
            who = next((key for key in ("role", "speaker", "from", "author") if key in turn), "role")
            what = next((key for key in ("content", "text", "value", "message", "utterance") if key in turn), "content")
            messages.append(_spoken(turn, place, who, what))
        else:
            raise RowError(f"turn {place} is neither text nor an object", "write a list of texts", "wrong-type")
    yield _example(line, [*_system(row), *messages], row, name, "system")


def _json_text(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"`{name}` is a text that is not JSON", f"give `{name}` as a list", "wrong-type") from error
