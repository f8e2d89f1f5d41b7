"""Personal data and secrets in an example. Each is a warning, quoted masked because reports are shared."""

from collections.abc import Iterator

from models.chat.personal_data import find_personal
from train.data.conversations import Example, Problem, ToolUse

_REPLACE = "replace it with an invented one, or with a placeholder such as [EMAIL]"
_MENDS = {
    "personal-email": _REPLACE,
    "personal-phone": _REPLACE.replace("EMAIL", "PHONE"),
    "personal-card": _REPLACE.replace("EMAIL", "CARD"),
    "secret-key": "remove it and revoke the key: a model may repeat it",
}


def check_personal(example: Example) -> Iterator[Problem]:
    """The personal data in one example: each kind once, at its first message."""
    reported: set[str] = set()
    for position, message in enumerate(example.conversation.messages, 1):
        texts = [message.content]
        if isinstance(message, ToolUse):
            texts += [call.arguments for call in message.calls]
        for text in texts:
            for code, label, match in find_personal(text):
                if code not in reported:
                    reported.add(code)
                    description = f"message {position} contains {label} ({_masked(match)})"
                    yield Problem(example.line, "warning", description, _MENDS[code], code)


def _masked(text: str) -> str:
    """The first and last letters: enough to find it in the file."""
    text = " ".join(text.split())
    return f"{text[:2]}…{text[-4:]}" if "@" in text else f"{text[:2]}…{text[-2:]}"
