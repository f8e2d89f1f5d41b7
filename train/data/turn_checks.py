"""Problems in the structure of one example: the order of roles, tool calls and their results, empty messages."""

from collections.abc import Iterator
from itertools import pairwise

from train.data.conversations import ChatMessage, Example, Problem, ToolResult, ToolUse


def check_turns(example: Example) -> Iterator[Problem]:
    """The structural problems of one example."""
    line, messages = example.line, example.conversation.messages
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        mend = "add the answer to train on"
        yield Problem(line, "error", "no assistant message", mend, "no-assistant")
        return
    if not example.learnt:
        mend = "give an answer weight 1, or remove the line"
        yield Problem(line, "error", "every answer has weight 0", mend, "nothing-learnt")
    yield from check_empty(line, messages)
    if "system" in roles[1:]:
        yield Problem(line, "error", "a system message after another message", "put it first", "system-not-first")
    if "user" not in roles:
        mend = "add the user's message, if there was one"
        yield Problem(line, "warning", "no user message", mend, "no-user")
    turns = [role for role in roles if role not in ("system", "tool")]
    without_system = [message for message in messages if message.role != "system"]
    if any(a.role == b.role != "tool" and not isinstance(a, ToolUse) for a, b in pairwise(without_system)):
        mend = "merge them: some chat templates refuse this"
        yield Problem(line, "warning", "two messages of one role in a row", mend, "role-order")
    if turns and turns[0] == "assistant" and "user" in turns:
        mend = "start with a user message: some chat templates refuse this"
        yield Problem(line, "warning", "the first turn is the assistant's", mend, "role-order")
    if roles[-1] != "assistant":
        last = {"user": "a user message", "tool": "a tool result", "system": "the system message"}[roles[-1]]
        yield Problem(line, "warning", f"ends with {last}, which has no loss", "add the answer", "no-last-answer")
    yield from _check_tools(example)


def check_empty(line: int, messages: tuple[ChatMessage, ...]) -> Iterator[Problem]:
    """The empty messages. Tool calls and tool results may be empty."""
    for position, message in enumerate(messages, 1):
        if not message.content.strip() and not isinstance(message, ToolUse | ToolResult):
            text = f"message {position} ({message.role}) is empty"
            yield Problem(line, "error", text, "fill it in, or remove the message", "empty")


def _check_tools(example: Example) -> Iterator[Problem]:
    line = example.line
    tools = {str((tool.get("function") or tool).get("name")) for tool in example.conversation.tool_dicts() or ()}
    waiting: dict[str, str] = {}
    for position, message in enumerate(example.conversation.messages, 1):
        if isinstance(message, ToolResult):
            if waiting.pop(message.call_id, None) is None:
                text = f"message {position} is the result of a missing tool call ({message.call_id[:40]!r})"
                yield Problem(line, "error", text, "put the call before its result, with the same id", "tool-order")
            continue
        if waiting:
            text = f"message {position} comes before the result of the call to {_names(waiting)}"
            yield Problem(line, "error", text, "put each result right after its call", "tool-order")
            waiting = {}
        if isinstance(message, ToolUse):
            waiting = {call.id: call.name for call in message.calls}
            if unknown := sorted({call.name for call in message.calls} - tools):
                text = f"message {position} calls {', '.join(unknown)[:80]}, which is not in the tools of the line"
                yield Problem(line, "warning", text, "add it to `tools`", "unknown-tool")


def _names(waiting: dict[str, str]) -> str:
    return ", ".join(sorted(set(waiting.values())))[:80]
