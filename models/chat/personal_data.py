"""Personal data and secrets in a text: e-mail addresses, phone and card numbers, keys of well-known services.

They are found by patterns, so some are missed and some are false alarms. Card numbers must have a network prefix and
pass the Luhn check (ISO/IEC 7812-1, annex B).
"""

import re
from collections.abc import Iterator
from typing import Any

_EMAIL = re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}\b")
# Domains that are reserved for examples (RFC 2606).
_RESERVED = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.\w+)?|test|invalid|localhost)$", re.IGNORECASE)
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
# Every key contains one of these. Searching for them first halves the time of the whole check.
_KEY_MARKS = (
    "sk-", "_live_", "_test_", "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "xox",
    "AIza", "glpat-", "eyJ", "PRIVATE KEY",
)  # fmt: skip
_DIGIT = re.compile(r"\d")


def mask_personal(text: str) -> tuple[str, int]:
    """The text with personal data and keys replaced by [EMAIL], [PHONE], [CARD] and [KEY], and how many there were."""
    count = 0

    def masked(placeholder: str, match: re.Match[str], holds: bool = True) -> str:
        nonlocal count
        count += holds
        return placeholder if holds else match.group()

    if "@" in text:
        text = _EMAIL.sub(lambda match: masked("[EMAIL]", match, not _RESERVED.search(match.group())), text)
    if any(mark in text for mark in _KEY_MARKS):
        text = _KEY.sub(lambda match: masked("[KEY]", match), text)
    if _DIGIT.search(text):
        text = _CARD.sub(lambda match: masked("[CARD]", match, _is_card(match.group())), text)
        text = _PHONE.sub(lambda match: masked("[PHONE]", match), text)
    return text, count


def mask_values(value: Any, unmasked: frozenset[str] = frozenset()) -> tuple[Any, int]:
    """A JSON value with the personal data in its texts replaced, and how many there were.

    Media (`data:` URLs) stay as they are, and so do the texts in the fields `unmasked`.
    """
    if isinstance(value, str):
        return (value, 0) if value.startswith("data:") else mask_personal(value)
    if isinstance(value, list):
        items = [mask_values(item, unmasked) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = {
            name: (item, 0) if name in unmasked and isinstance(item, str) else mask_values(item, unmasked)
            for name, item in value.items()
        }
        return {name: item for name, (item, _) in pairs.items()}, sum(count for _, count in pairs.values())
    return value, 0


def find_personal(text: str) -> Iterator[tuple[str, str, str]]:
    """(code, label, match) of each kind in the text, the first of each: `secret-key` or `personal-…`, and its name."""
    if "@" in text:
        address = next((match.group() for match in _EMAIL.finditer(text) if not _RESERVED.search(match.group())), None)
        if address:
            yield "personal-email", "an e-mail address", address
    if any(mark in text for mark in _KEY_MARKS) and (key := _KEY.search(text)):
        yield "secret-key", "a secret key", key.group()
    if not _DIGIT.search(text):
        return
    cards = [match for match in _CARD.finditer(text) if _is_card(match.group())]
    if cards:
        yield "personal-card", "a card number", cards[0].group()
    taken = [card.span() for card in cards]
    for phone in _PHONE.finditer(text):
        if not any(start < phone.end() and phone.start() < end for start, end in taken):
            yield "personal-phone", "a phone number", phone.group()
            return


def _is_card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return bool(_NETWORK.fullmatch(digits)) and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0
