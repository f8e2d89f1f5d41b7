"""Whether a conversation is one that can be learnt from: who speaks when, tools and their results, nothing empty.

It looks at one example alone. What the words are like is `texts`' business.
"""

from collections.abc import Iterator
from itertools import pairwise

from train.data.conversations import Example, Problem, Said, ToolResult, ToolUse


def check_turns(example: Example) -> Iterator[Problem]:
    """The problems of order and emptiness of one example."""
    line, messages = example.line, example.conversation.messages
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        mend = "add the answer that should be learnt"
        yield Problem(line, "error", "the assistant says nothing", mend, "no-assistant")
        return
    if not example.learnt:
        mend = "give one answer weight 1, or remove the line"
        yield Problem(line, "error", "every answer has weight 0", mend, "nothing-learnt")
    yield from empty(line, messages)
    if "system" in roles[1:]:
        yield Problem(line, "error", "a system message that is not the first", "put it first", "system-not-first")
    if "user" not in roles:
        mend = "add what the user asked, if something was asked"
        yield Problem(line, "warning", "no user message", mend, "no-user")
    turns = [role for role in roles if role not in ("system", "tool")]
    spoken = [message for message in messages if message.role != "system"]
    if any(one.role == other.role != "tool" and not isinstance(one, ToolUse) for one, other in pairwise(spoken)):
        mend = "join them: some chat templates refuse this"
        yield Problem(line, "warning", "two messages of one role in a row", mend, "role-order")
    if turns and turns[0] == "assistant" and "user" in turns:
        mend = "begin with the user: some chat templates refuse this"
        yield Problem(line, "warning", "the assistant speaks first", mend, "role-order")
    if roles[-1] != "assistant":
        who = {"user": "the user", "tool": "a tool's result", "system": "the system message"}[roles[-1]]
        yield Problem(line, "warning", f"ends with {who}: nothing is learnt there", "add the answer", "no-last-answer")
    yield from _check_tools(example)


def empty(line: int, messages: tuple[Said, ...]) -> Iterator[Problem]:
    """The messages without a word. An answer that only calls tools, or a tool that gives nothing back, is none."""
    for position, message in enumerate(messages, 1):
        if not message.content.strip() and not isinstance(message, ToolUse | ToolResult):
            wrong = f"message {position} ({message.role}) is empty"
            yield Problem(line, "error", wrong, "write it, or remove the message", "empty")


def _check_tools(example: Example) -> Iterator[Problem]:
    line = example.line
    tools = {str((tool.get("function") or tool).get("name")) for tool in example.conversation.tool_dicts() or ()}
    waiting: dict[str, str] = {}
    for position, message in enumerate(example.conversation.messages, 1):
        if isinstance(message, ToolResult):
            if waiting.pop(message.call_id, None) is None:
                wrong = f"message {position} answers a tool call that was not made ({message.call_id[:40]!r})"
                yield Problem(line, "error", wrong, "put the call before its result, with the same id", "tool-order")
            continue
        if waiting:
            wrong = f"message {position} comes before the result of the call to {_named(waiting)}"
            yield Problem(line, "error", wrong, "put each call's result right after it", "tool-order")
            waiting = {}
        if isinstance(message, ToolUse):
            waiting = {call.id: call.name for call in message.calls}
            if strange := sorted({call.name for call in message.calls} - tools):
                wrong = f"message {position} calls {', '.join(strange)[:80]}, which the line's tools do not have"
                yield Problem(line, "warning", wrong, "list it under `tools`", "unknown-tool")


def _named(waiting: dict[str, str]) -> str:
    return ", ".join(sorted(set(waiting.values())))[:80]
