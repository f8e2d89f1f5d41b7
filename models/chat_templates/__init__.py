"""Chat templates by name, for bases that have none, and what can be known from a template without a model.

Each template marks what the assistant writes, the end of its turn included, with `{% generation %}`: that is what a
training learns. `rendering` renders one, `turn_ends` finds the token that ends an answer, `system_role` says whether
there is a place for a system message; `inspection` does all of it in a process of its own.
"""

import os.path
from pathlib import Path

from models.errors import Invalid

_FOLDER = Path(__file__).resolve().parent
_MOST_BYTES = 2**17


def names() -> tuple[str, ...]:
    """The names of the templates that come with Parley."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.jinja")))


def read_template(name_or_file: str) -> str:
    """The text of a template: one of `names()`, or a file.

    Raises:
        Invalid: there is neither such a name nor such a file, or it holds no template.
    """
    if name_or_file in names():
        return (_FOLDER / f"{name_or_file}.jinja").read_text("utf-8")
    file = Path(os.path.expanduser(name_or_file))
    if not os.path.isfile(file):
        raise Invalid(
            f"There is no chat template {name_or_file[:300]!r}: use {', '.join(names())}, or a file.",
            param="chat_template",
        )
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The chat template {name_or_file} cannot be read: {error}.", param="chat_template") from error
    return check_template(text)


def check_template(text: str) -> str:
    """The same text.

    Raises:
        Invalid: it is no Jinja template that writes a conversation's messages.
    """
    from models.chat_templates.inspection import inspect_template

    if len(text.encode()) > _MOST_BYTES:
        raise Invalid(f"A chat template has at most {_MOST_BYTES // 1024} KiB.", param="chat_template")
    if reason := inspect_template(text).broken:
        raise Invalid(f"This is not a chat template: {reason}.", param="chat_template")
    if "messages" not in text:
        raise Invalid(
            "This is not a chat template: it never reads `messages`. Give a Jinja file, or one of "
            f"{', '.join(names())}.",
            param="chat_template",
        )
    return text
