"""Problems in the text of an example: truncated answers, left-over HTML, broken encodings.

Each is a warning: an answer may end with dots on purpose, and a lesson on HTML contains HTML. HTML in backticks is not
reported.
"""

import re
from collections.abc import Iterator

from train.data.conversations import Example, Problem, ToolUse

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
    elif len(ended) <= _SHORT and (found := _POINTS.search(ended)):
        message = f"{where} refers to another text instead of answering: {_quoted(found.group())}"
        yield Problem(line, "warning", message, "write the answer itself", "truncated")


def _html(line: int, where: str, text: str) -> Iterator[Problem]:
    if "<" not in text and "&" not in text:
        return
    prose = _FENCE.sub(" ", text)
    if found := _TAG.search(prose) or _ENTITY.search(prose):
        message = f"{where} contains HTML: {_quoted(found.group()[:40])}"
        yield Problem(line, "warning", message, "remove the markup, or put code in backticks", "html")


def _encoding(line: int, where: str, text: str) -> Iterator[Problem]:
    if text.isascii() and not _CONTROL.search(text):
        return
    mend = "export the text again as UTF-8"
    if "\ufffd" in text:
        yield Problem(line, "warning", f"{where} contains \ufffd: its encoding is broken", mend, "broken-encoding")
    elif found := next((match for match in _MOJIBAKE.finditer(text) if _repaired(match.group())), None):
        was = _repaired(found.group())
        message = f'{where} was read with the wrong encoding: {_quoted(found.group())} instead of "{was}"'
        yield Problem(line, "warning", message, mend, "broken-encoding")
    elif found := _CONTROL.search(text):
        yield Problem(
            line, "warning", f"{where} contains the control character {found.group()!r}", mend, "broken-encoding"
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
