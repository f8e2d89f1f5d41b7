"""Personal data and secrets in the words of an example: e-mail, phone and card numbers, keys of well-known services.

Found by pattern, so some is missed and some is not meant; each is a warning and is quoted masked, because reports are
passed around. Card numbers must have a network's prefix and pass Luhn's check (ISO/IEC 7812-1, annex B).
"""

import re
from collections.abc import Iterator

from train.data.conversations import Example, Problem, ToolUse

_EMAIL = re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
# Addresses that are reserved for examples (RFC 2606) are nobody's.
_NOBODY = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.\w+)?|test|invalid|localhost)$", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|\(\d{3}\)[ .-]?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5})(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])(?:\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}|3[47]\d{2}[ -]\d{6}[ -]\d{5}|\d{13,19})(?![\w-])")
_NETWORK = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
_KEY = re.compile(
    r"\bsk-(?:proj-|ant-|or-|live-)?[A-Za-z0-9_-]{20,}|\b(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{35}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"
)
# A key has one of these in it. Looking for them first halves the time of the whole check.
_KEY_MARKS = (
    "sk-", "_live_", "_test_", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "xox",
    "AIza", "glpat-", "eyJ", "PRIVATE KEY",
)  # fmt: skip
_DIGIT = re.compile(r"\d")


def check_personal(example: Example) -> Iterator[Problem]:
    """The personal data of one example, each kind once a line, at its first message."""
    told: set[str] = set()
    for position, message in enumerate(example.conversation.messages, 1):
        texts = [message.content]
        if isinstance(message, ToolUse):
            texts += [call.arguments for call in message.calls]
        for text in texts:
            for code, called, found in _found(text):
                if code not in told:
                    told.add(code)
                    wrong = f"message {position} holds {called} ({_masked(found)})"
                    yield Problem(example.line, "warning", wrong, _MENDS[code], code)


_REPLACE = "replace it by an invented one, or by a mark such as [EMAIL]"
_MENDS = {
    "personal-email": _REPLACE,
    "personal-phone": _REPLACE.replace("EMAIL", "PHONE"),
    "personal-card": _REPLACE.replace("EMAIL", "CARD"),
    "secret-key": "take it out, and revoke it where it was issued: a model repeats what it has read",
}


def _found(text: str) -> Iterator[tuple[str, str, str]]:
    """(code, what it is, the text) of each kind that is there, the first of each."""
    if "@" in text:
        address = next((one.group() for one in _EMAIL.finditer(text) if not _NOBODY.search(one.group())), None)
        if address:
            yield "personal-email", "an e-mail address", address
    if any(mark in text for mark in _KEY_MARKS) and (key := _KEY.search(text)):
        yield "secret-key", "a secret key", key.group()
    if not _DIGIT.search(text):
        return
    cards = [one for one in _CARD.finditer(text) if _is_card(one.group())]
    if cards:
        yield "personal-card", "a card number", cards[0].group()
    taken = [one.span() for one in cards]
    for one in _PHONE.finditer(text):
        if not any(start < one.end() and one.start() < end for start, end in taken):
            yield "personal-phone", "a phone number", one.group()
            return


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(_NETWORK.fullmatch(digits)) and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _masked(text: str) -> str:
    """Enough to find it again in the file, and no more."""
    text = " ".join(text.split())
    return f"{text[:2]}…{text[-4:]}" if "@" in text else f"{text[:2]}…{text[-2:]}"
