"""Reads text files in UTF-8 or another encoding, and guesses an encoding.

UTF-8 is read line by line, so that a broken line does not affect others. Other encodings are used only on request.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from models.errors import Invalid
from train.data.conversations import Problem

UTF8 = "utf-8"
_SAMPLE_BYTES = 64 * 1024
_SEQUENCES = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")
_WESTERN_SHARE = 0.2  # Western text has fewer letters than this outside ASCII
# Common encodings of exports from Windows and older Asian programs. With more candidates, more guesses are wrong.
_CANDIDATES = ["cp1251", "cp1253", "cp1255", "cp1256", "gb18030", "big5", "cp949"]
_KANA = re.compile("[\u3041-\u30fe]")


def check_encoding(encoding: str | None) -> str:
    """The encoding to read with; UTF-8 by default.

    Raises:
        Invalid: Python has no text encoding of this name.
    """
    name = encoding or UTF8
    try:
        " ".encode(name)
    except (LookupError, UnicodeError) as error:
        message = f"There is no encoding {name!r}: use utf-8, cp1252, utf-16, shift_jis, gb18030 or another."
        raise Invalid(message, param="encoding") from error
    return UTF8 if name.lower().replace("_", "-") in ("utf8", UTF8, "utf-8-sig") else name


def text_lines(path: Path, encoding: str) -> Iterator[tuple[int, str | Problem]]:
    """The lines of a file with their numbers, from 1, without blank lines."""
    if encoding != UTF8:
        yield from _encoded_lines(path, encoding)
        return
    mend = ""
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():  # a blank line is layout, not data
                continue
            try:
                yield line, raw.decode("utf-8-sig" if line == 1 else UTF8)
            except UnicodeDecodeError as error:
                mend = mend or text_mend(guess_encoding(path))
                yield line, Problem(line, "error", f"not UTF-8 (byte {error.start})", mend, "invalid-utf8")


def _encoded_lines(path: Path, encoding: str) -> Iterator[tuple[int, str | Problem]]:
    line = 0
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for line, text in enumerate(file, 1):
                if text.strip():
                    yield line, text.removeprefix("\ufeff") if line == 1 else text
    except UnicodeError as error:
        yield line + 1, _wrong_encoding(line + 1, encoding, error)


def whole_text(path: Path, encoding: str) -> tuple[str, Problem | None]:
    """The text of a file, and the problem of its first broken byte, which U+FFFD replaces in the text."""
    content = path.read_bytes()
    name = "utf-8-sig" if encoding == UTF8 else encoding
    try:
        return content.decode(name).removeprefix("\ufeff"), None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(
            line, "error", f"not UTF-8 (byte {error.start})", text_mend(guess_encoding(path)), "invalid-utf8"
        )
        if encoding != UTF8:
            problem = _wrong_encoding(line, encoding, error)
        return content.decode(name, errors="replace"), problem


def _wrong_encoding(line: int, encoding: str, error: UnicodeError) -> Problem:
    place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
    mend = "give another --encoding; nothing from this line on was read"
    return Problem(line, "error", f"not {encoding}{place}", mend, "invalid-utf8")


def text_mend(guess: str | None) -> str:
    """What to do about text that is not UTF-8; `guess` is its likely encoding."""
    return f"read it with --encoding {guess}, or save the file as UTF-8" if guess else "save the file as UTF-8"


def guess_encoding(path: Path) -> str | None:
    """The likely encoding of a file; None if it is mostly UTF-8 or cannot be guessed."""
    from charset_normalizer import from_bytes

    sample = _sample(path)
    letters, high = len(sample), len(_HIGH.findall(sample))
    in_utf8 = sum(map(len, _SEQUENCES.findall(sample)))
    if not high or in_utf8 > high / 2:
        return None
    if high < _WESTERN_SHARE * letters and _reads_as(sample, "cp1252"):
        return "cp1252"
    for japanese in ("shift_jis", "euc_jp"):  # the library mistakes short texts for Korean
        if _reads_as(sample, japanese) and len(_KANA.findall(sample.decode(japanese))) * 8 > high:
            return japanese
    best = from_bytes(sample, cp_isolation=_CANDIDATES).best()
    return str(best.encoding) if best else None


def _sample(path: Path) -> bytes:
    """The lines around the first byte that is not ASCII."""
    with path.open("rb") as file:
        while chunk := file.read(_SAMPLE_BYTES):
            if _HIGH.search(chunk):
                whole_lines, _, _ = (chunk + file.read(_SAMPLE_BYTES)).rpartition(b"\n")
                return whole_lines or chunk
    return b""


def _reads_as(sample: bytes, encoding: str) -> bool:
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
