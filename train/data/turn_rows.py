"""Rows with a list of turns: ShareGPT's and its relatives. Each turn becomes a message in the API's format.

A turn keeps its other fields: weights, reasoning and tool calls are read as in OpenAI's messages (`openai_rows`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from train.data.openai_rows import ROLES, Items, Messages, conversation_items, read_messages
from train.data.row_fields import RowError, text_of

Row = Mapping[str, Any]

QUESTIONS = ("question", "query", "prompt", "instruction", "user", "human", "input", "inputs", "text_input", "q")
ANSWERS = ("answer", "response", "reply", "assistant", "output", "targets", "target", "a")
TURNS = ("turns", "conversation", "dialogue", "dialog", "conversations")
_CALLS, _RESULTS = ("function_call", "tool_call"), ("observation", "tool_response", "tool", "function_response")
_WHO = ("role", "from", "speaker", "author")
_WHAT = ("content", "value", "text", "message", "utterance")
_SHAREGPT = ("conversations", "messages", "conversation")


def is_sharegpt(row: Row) -> bool:
    """Whether a row has turns with `from`; an empty list counts for `conversations` only."""
    name = _sharegpt_field(row)
    return name is not None or row.get("conversations") == []


def _sharegpt_field(row: Row) -> str | None:
    def has_from(turns: Any) -> bool:
        first = turns[0] if isinstance(turns, list) and turns else None
        return isinstance(first, Mapping) and "from" in first and "role" not in first

    return next((name for name in _SHAREGPT if has_from(row.get(name))), None)


def sharegpt_row(line: int, row: Row) -> Items:
    """`{"conversations": [{"from", "value"}, …]}`.

    Raises:
        RowError: the row cannot be read.
    """
    name = _sharegpt_field(row) or "conversations"
    if not isinstance(row.get(name), list):
        raise RowError("no `conversations` list", 'write {"conversations": [{"from", "value"}, …]}', "wrong-type")
    yield from conversation_items(line, row, read_turns(row[name]), name)


def turns_row(line: int, row: Row) -> Items:
    """`{"turns": […]}`, by any of its names.

    Raises:
        RowError: the row cannot be read.
    """
    name = next((name for name in TURNS if isinstance(row.get(name), list)), None)
    if name is None:
        raise RowError("no `turns` list", 'write {"turns": ["question", "answer", …]}', "wrong-type")
    yield from conversation_items(line, row, read_turns(row[name]), name)


def read_turns(turns: Sequence[Any]) -> Messages:
    """Turns as messages: texts that alternate, pairs of a question and an answer, or objects with a role and a text.

    Raises:
        RowError: one of them cannot be read; the message says which.
    """
    messages: list[dict[str, Any]] = []
    for place, turn in enumerate(turns, 1):
        if isinstance(turn, str):
            role = "assistant" if len(messages) % 2 else "user"
            messages.append({"role": role, "content": turn.strip()})
        elif not isinstance(turn, Mapping):
            raise RowError(f"turn {place} is neither text nor an object", "write a list of texts", "wrong-type")
        elif not any(name in turn for name in _WHO) and (pair := pair_of(turn)):
            both = _both(turn, *pair)
            messages += both[:1] if place == len(turns) and turn[pair[1]] is None else both  # an open question
        else:
            messages.append(_message(turn, place, messages))
    return read_messages(messages, strict=False)


def pair_of(row: Row) -> tuple[str, str] | None:
    """The fields of a row that have a question and its answer."""
    question = next((name for name in QUESTIONS if name in row), None)
    answer = next((name for name in ANSWERS if name in row), None)
    return (question, answer) if question and answer else None


def _both(turn: Row, question: str, answer: str) -> list[dict[str, Any]]:
    """A pair as two messages; its other fields belong to the answer."""
    rest = {key: value for key, value in turn.items() if key not in (question, answer)}
    return [
        {"role": "user", "content": _stripped(turn[question])},
        rest | {"role": "assistant", "content": _stripped(turn[answer])},
    ]


def _message(turn: Row, place: int, before: Sequence[Row]) -> dict[str, Any]:
    who = next((name for name in _WHO if name in turn), "role")
    what = next((name for name in _WHAT if name in turn), None)
    if what is None and not turn.get("tool_calls"):
        name = {"from": "value", "speaker": "text"}.get(who, "content")
        raise RowError(f"turn {place} has no `{name}`", f'write {{"{who}": …, "{name}": …}}', "wrong-type")
    content = turn[what] if what else ""
    if (who, what) != ("role", "content"):
        content = _stripped(content)
    rest = {key: value for key, value in turn.items() if key not in (who, what)}
    role = str(turn.get(who)).lower()
    if role in _CALLS:
        return rest | {"role": "assistant", "content": "", "tool_calls": _calls(content, place)}
    if role in _RESULTS:
        return {"tool_call_id": _call_answered(before)} | rest | {"role": "tool", "content": content}
    if role == "function" and who == "role":  # a result in OpenAI's older form
        return {**turn}
    if role not in ROLES:
        mend = "use human and gpt, or user and assistant; write tool calls as OpenAI messages"
        raise RowError(f"turn {place}: unknown role {turn.get(who)!r}", mend, "unknown-role")
    return rest | {"role": ROLES[role], "content": content}


def _stripped(content: Any) -> Any:
    return content.strip() if isinstance(content, str) else content


def _calls(content: Any, place: int) -> list[dict[str, Any]]:
    """The tool calls of a turn in the usual ShareGPT extension, whose text is JSON."""
    parsed = parse_json(text_of(content), f"turn {place}")
    functions = parsed if isinstance(parsed, list) else [parsed]
    return [{"id": f"call_{place}_{number}", "function": function} for number, function in enumerate(functions, 1)]


def _call_answered(before: Sequence[Row]) -> str:
    """The id of the call that the next result answers. Results have no ids here; they follow the order of the calls."""
    for results, message in enumerate(reversed(before)):
        calls = message.get("tool_calls")
        if isinstance(calls, list) and results < len(calls) and isinstance(calls[results], Mapping):
            return str(calls[results].get("id") or "none")
        if message.get("role") != "tool":
            break
    return "none"


def parse_json(text: str, name: str) -> Any:
    """The value of a field that has JSON as text.

    Raises:
        RowError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"`{name}` is a text that is not JSON", f"give `{name}` as a list", "wrong-type") from error
