"""Problems of examples: their structure (roles, tool calls, empty messages), their text, and their consistency.

Text problems are warnings: an answer may end with dots on purpose, and a lesson on HTML contains HTML. HTML in
backticks is not reported. For a whole set, a few exceptions to one system prompt or one answer format are reported
at their lines; if there is no clear rule, the problem is of the whole set (line 0).
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from train.data.conversations import ChatMessage, Example, Problem, ToolResult, ToolUse

_FENCE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_TAG = re.compile(
    r"</?(?:p|div|span|br|hr|b|i|u|em|strong|a|ul|ol|li|table|tbody|thead|tr|td|th|h[1-6]|img|font|script|style|section|"
    r"article|header|footer|nav|button|form|input|label|html|body|head|meta|link|iframe|center|small|sup|sub|pre|code|"
    r"blockquote)(?:\s+[a-z-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s>]+))*\s*/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(
    r"&(?:amp|nbsp|lt|gt|quot|apos|[rl]squo|[rl]dquo|[mn]dash|hellip|bull|copy|euro|#\d{2,6}|#x[0-9a-f]{2,6});"
)
# Endings of truncated texts, and references to text that is not there.
_CUT = re.compile(
    r"(?:…|\.{3,}|[\[(<{](?:truncated|cut off|snip|continued|to be continued|more|\.\.\.|…)[\])>}])\s*$", re.I
)
_POINTS = re.compile(
    r"\b(?:(?:see|as|same as|refer to|mentioned|stated|described) (?:the )?"
    r"(?:above|previous (?:answer|message|reply|response))|ditto|(?:s\.|siehe) oben|wie oben)\b",
    re.IGNORECASE,
)
_SHORT = 80  # in a longer answer "as above" refers to the answer itself
# UTF-8 that was read as Windows-1252: a lead byte's letter and the letters of its continuation bytes.
_CONTINUED = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(
    rf"[\u00c2\u00c3\u00c5\u00ce\u00cf\u00d0\u00d1][{_CONTINUED}]|[\u00e0-\u00ef][{_CONTINUED}]{{2}}|\u00f0[{_CONTINUED}]{{3}}"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]")
_RULE = 0.8  # from this share on something is the rule, and the rest are exceptions
_FEWEST = 5  # with fewer examples nothing is reported


def check_texts(example: Example) -> Iterator[Problem]:
    """The text problems of one example, each kind once for a message."""
    line = example.line
    for position, message in enumerate(example.conversation.messages):
        text = message.content
        where = f"message {position + 1}"
        if position in example.learnt and not isinstance(message, ToolUse):
            yield from _truncated(line, where, text)
        if message.role != "tool":
            yield from _html(line, where, text)
        yield from _encoding(line, where, text)


def _truncated(line: int, where: str, text: str) -> Iterator[Problem]:
    mend = "complete the answer: the model would learn to stop there"
    ended = text.rstrip()
    if _CUT.search(ended[-40:]):
        yield Problem(line, "warning", f"{where} seems to be cut off: {_quoted(ended[-24:])}", mend, "truncated")
    elif ended.count("```") % 2:
        yield Problem(line, "warning", f"{where} has a code block without an end", mend, "truncated")
    elif len(ended) <= _SHORT and (match := _POINTS.search(ended)):
        message = f"{where} refers to another text instead of answering: {_quoted(match.group())}"
        yield Problem(line, "warning", message, "write the answer itself", "truncated")


def _html(line: int, where: str, text: str) -> Iterator[Problem]:
    if "<" not in text and "&" not in text:
        return
    prose = _FENCE.sub(" ", text)
    if match := _TAG.search(prose) or _ENTITY.search(prose):
        message = f"{where} contains HTML: {_quoted(match.group()[:40])}"
        yield Problem(line, "warning", message, "remove the markup, or put code in backticks", "html")


def _encoding(line: int, where: str, text: str) -> Iterator[Problem]:
    if text.isascii() and not _CONTROL.search(text):
        return
    mend = "export the text again as UTF-8"
    if "\ufffd" in text:
        yield Problem(line, "warning", f"{where} contains \ufffd: its encoding is broken", mend, "broken-encoding")
    elif match := next((match for match in _MOJIBAKE.finditer(text) if _repaired(match.group())), None):
        was = _repaired(match.group())
        message = f'{where} was read with the wrong encoding: {_quoted(match.group())} instead of "{was}"'
        yield Problem(line, "warning", message, mend, "broken-encoding")
    elif match := _CONTROL.search(text):
        yield Problem(
            line, "warning", f"{where} contains the control character {match.group()!r}", mend, "broken-encoding"
        )


def _repaired(garbled: str) -> str | None:
    """The letter that was garbled; None if the text is not misread UTF-8."""
    raw = bytearray()
    for letter in garbled:
        try:
            raw += letter.encode("cp1252")
        except UnicodeEncodeError:
            if ord(letter) > 0xFF:
                return None
            raw.append(ord(letter))  # the bytes that Windows-1252 leaves undefined
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _quoted(text: str) -> str:
    return f'"{" ".join(text.split())}"'


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
        mend = "put it first, or fold it into the next user turn with --fold-system"
        yield Problem(line, "error", "a system message after another message", mend, "system-not-first")
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


def check_consistency(examples: Sequence[Example]) -> Iterator[Problem]:
    """The problems of a data set: inconsistent system prompts, and a mix of JSON and prose answers."""
    if len(examples) < _FEWEST:
        return
    yield from _check_systems(examples)
    by_system: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_system[system_of(example)].append(example)
    for group in by_system.values():  # another system prompt may ask for another format
        if len(group) >= _FEWEST:
            yield from _check_answer_formats(group)


def system_of(example: Example) -> str:
    """The system message of the example, or ""."""
    first = example.conversation.messages[0]
    return first.content.strip() if first.role == "system" else ""


def _check_systems(examples: Sequence[Example]) -> Iterator[Problem]:
    counts = Counter(system_of(example) for example in examples)
    (usual, most), kinds = counts.most_common(1)[0], len(counts)
    share = most / len(examples)
    if kinds == 1 or kinds > len(examples) / 2:  # one for all, or one for each: it is part of the question
        return
    mend = "give all examples the system prompt that you will use in production"
    if share < _RULE:
        message = f"{kinds} different system prompts; the most frequent one is in {share:.0%} of the lines"
        yield Problem(0, "warning", message, mend, "inconsistent-system")
        return
    for example in examples:
        system = system_of(example)
        if system != usual:
            difference = "another system prompt than" if system and usual else "no system prompt, unlike"
            if not usual:
                difference = "a system prompt, unlike"
            message = f"{difference} {share:.0%} of the lines"
            yield Problem(example.line, "warning", message, mend, "inconsistent-system")


def _check_answer_formats(group: Sequence[Example]) -> Iterator[Problem]:
    formats = {example.line: format_ for example in group if (format_ := _answer_format(example))}
    number = sum(format_ == "JSON" for format_ in formats.values())
    if not number or number == len(formats):
        return
    share = number / len(formats)
    mend = "use one format, or ask for the format in the system prompt"
    if 1 - _RULE < share < _RULE:
        message = f"{share:.0%} of the answers are JSON, the others are not"
        yield Problem(0, "warning", message, mend, "inconsistent-format")
        return
    usual = "JSON" if share >= _RULE else "prose"
    for line, format_ in formats.items():
        if format_ != usual:
            message = f"the answer is {format_}, but {max(share, 1 - share):.0%} of the answers are {usual}"
            yield Problem(line, "warning", message, mend, "inconsistent-format")


def _answer_format(example: Example) -> str | None:
    """The format of the last learnt answer; None for tool calls."""
    if not example.learnt:
        return None
    answer = example.conversation.messages[example.learnt[-1]]
    if isinstance(answer, ToolUse):
        return None
    text = answer.content.strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    if not text.startswith(("{", "[")):
        return "prose"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "broken JSON" if text.startswith("{") and '"' in text else "prose"
    return "JSON"
