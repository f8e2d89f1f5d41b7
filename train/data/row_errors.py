"""The error of a row that cannot be read, and the check of its text."""

from train.data.conversations import Problem


class RowError(Exception):
    """A row that cannot be read: what is wrong, what to do about it, and the code of the problem."""

    def __init__(self, message: str, mend: str, code: str) -> None:
        super().__init__(message)
        self.message, self.mend, self.code = message, mend, code

    def at(self, line: int) -> Problem:
        """The error as a problem of its line."""
        return Problem(line, "error", self.message, self.mend, self.code)


def require_valid_unicode(text: str) -> str:
    """The same text.

    Raises:
        RowError: it has half of a surrogate pair, which UTF-8 cannot encode and no tokenizer accepts.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message, mend = (
            "content has half a character (\\ud800 to \\udfff)",
            "export the data again: an emoji was cut in two",
        )
        raise RowError(message, mend, "half-character") from error
    return text
