"""Chat templates by name, for bases that have none, and facts about a template that need no model.

Each template marks the assistant's text and the end of its turn with `{% generation %}`: a model is trained on these
tokens. `renderer` renders a template, `turn_ends` finds the token that ends an answer, and `system_role` tells whether
a template supports system messages; `inspection` does this in a separate process.
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
        Invalid: there is no template or file of this name, or the file is not a chat template.
    """
    if name_or_file in names():
        return (_FOLDER / f"{name_or_file}.jinja").read_text("utf-8")
    file = Path(os.path.expanduser(name_or_file))
    if not os.path.isfile(file):
        raise Invalid(
            f"There is no chat template {name_or_file[:300]!r}: use {', '.join(names())} or a Jinja file.",
            param="chat_template",
        )
    try:
        with file.open("rb") as stream:
            text = stream.read(_MOST_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The chat template {name_or_file} cannot be read: {error}.", param="chat_template") from error
    return check_template(text)


def find_template(name_or_text: str) -> str:
    """The text of a template of `names()`, or the text that is given. It reads no other files.

    Raises:
        Invalid: it is neither a name nor a chat template.
    """
    return read_template(name_or_text) if name_or_text in names() else check_template(name_or_text)


def check_template(text: str) -> str:
    """Returns the text unchanged if it is a chat template.

    Raises:
        Invalid: it is not a Jinja template that uses `messages`.
    """
    from models.chat_templates.inspection import inspect_template

    if len(text.encode()) > _MOST_BYTES:
        raise Invalid(
            f"The chat template is too large: use one of at most {_MOST_BYTES // 1024} KiB.", param="chat_template"
        )
    if reason := inspect_template(text).broken:
        raise Invalid(f"This is not a chat template: {reason}.", param="chat_template")
    if "messages" not in text:
        raise Invalid(
            "This is not a chat template: it does not use `messages`. Give another Jinja file, or one of "
            f"{', '.join(names())}.",
            param="chat_template",
        )
    return text
