"""The fields of a row of training data: their text, the metadata, and the error of a row that cannot be read."""

import json
from collections.abc import Mapping
from typing import Any

from train.data.conversations import Problem

_TEXT_PARTS = ("text", "input_text", "output_text")  # in chat completions, and in the Responses API


class RowError(Exception):
    """A row that cannot be read: what is wrong, what to do about it, and the code of the problem."""

    def __init__(self, message: str, mend: str, code: str) -> None:
        super().__init__(message)
        self.message, self.mend, self.code = message, mend, code

    def at(self, line: int) -> Problem:
        """The error as a problem of its line."""
        return Problem(line, "error", self.message, self.mend, self.code)


def field_text(row: Mapping[str, Any], name: str) -> str:
    """The text of a row's field, without the spaces around it.

    Raises:
        RowError: there is no such field, or it is not text.
    """
    if name not in row:
        raise RowError(f"no `{name}`", f"give `{name}`", "wrong-type")
    try:
        return text_of(row[name]).strip()
    except RowError as error:
        raise RowError(f"`{name}`: {error.message}", error.mend, error.code) from error


def text_of(content: Any) -> str:
    """The text of a content field, its text parts joined with a newline, as an engine joins them.

    Raises:
        RowError: it is something else, or holds half a character.
    """
    if isinstance(content, list):
        content = "\n".join(text_parts(content))
    if not isinstance(content, str):
        raise RowError(f"content is {type(content).__name__}, not text", "give the content as a string", "wrong-type")
    return require_valid_unicode(content)


def text_parts(content: list[Any]) -> list[str]:
    """The texts of a list of content parts.

    Raises:
        RowError: a part is not text.
    """
    # Amazon's and Google's parts have no type.
    if not all(
        isinstance(part, Mapping)
        and part.get("type", "text" in part and "text") in _TEXT_PARTS
        and isinstance(part.get("text", ""), str)
        for part in content
    ):
        raise RowError("content with parts that are not text", "keep only the text parts", "not-text")
    return [part.get("text", "") for part in content]


def require_valid_unicode(text: str) -> str:
    """The same text.

    Raises:
        RowError: it has half of a surrogate pair, which UTF-8 cannot encode and no tokenizer accepts.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        mend = "export the data again: an emoji was cut in two"
        raise RowError("content has half a character (\\ud800 to \\udfff)", mend, "half-character") from error
    return text


def metadata_of(row: Mapping[str, Any], *used: str) -> dict[str, str]:
    """The other fields of a row as text. The fields of an object `metadata` are merged in."""
    rest = {key: value for key, value in row.items() if key not in {*used, "tools", "functions"}}
    inner = rest.pop("metadata", None)
    if isinstance(inner, Mapping):
        rest |= inner
    elif inner is not None:
        rest["metadata"] = inner
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for key, value in rest.items()
        if value is not None
    }
