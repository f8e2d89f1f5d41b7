"""Recognises files that are not training data by their first bytes. It reads no rows.

Uploads and files on the command line are refused with the same message.
"""

from dataclasses import dataclass
from pathlib import Path

from models.errors import Invalid

TRAINING_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".xlsx", ".parquet")
HEAD_BYTES = 512  # enough to recognise each kind

_TAR_MARK = slice(257, 262)
_SAVE_AS_TEXT = f"Training data is {', '.join(TRAINING_SUFFIXES[:-1])} or {TRAINING_SUFFIXES[-1]}"
_UNPACK = "Unpack it, and give the file inside"
_RIFF = b"RIFF"


@dataclass(frozen=True)
class ForeignKind:
    """A kind of file that is not training data: its name with an article, and what to do instead."""

    title: str
    mend: str


_PARQUET = ForeignKind("a Parquet file", "Rename it to .parquet")
_HTML = ForeignKind("an HTML page", "Download the file itself, not the page that shows it")
_ZIP = ForeignKind("a ZIP or Office file", f"{_UNPACK}, or save the sheet as .xlsx or .csv")
_SIGNATURES = (
    (b"\x89PNG", ForeignKind("a PNG image", _SAVE_AS_TEXT)),
    (b"\xff\xd8\xff", ForeignKind("a JPEG image", _SAVE_AS_TEXT)),
    (b"GIF8", ForeignKind("a GIF image", _SAVE_AS_TEXT)),
    (b"%PDF-", ForeignKind("a PDF file", _SAVE_AS_TEXT)),
    (b"PK\x03\x04", _ZIP),
    (b"PAR1", _PARQUET),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        ForeignKind(
            "an Office file that is old or has a password", "Save the sheet as .xlsx or .csv, without a password"
        ),
    ),
    (b"\x1f\x8b", ForeignKind("a gzip file", _UNPACK)),
    (b"BZh", ForeignKind("a bzip2 file", _UNPACK)),
    (b"\xfd7zXZ\x00", ForeignKind("an xz file", _UNPACK)),
    (b"(\xb5/\xfd", ForeignKind("a Zstandard file", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", ForeignKind("a 7z file", _UNPACK)),
    (b"Rar!", ForeignKind("a RAR file", _UNPACK)),
    (b"version https://git-lfs", ForeignKind("a Git LFS pointer", "Fetch the file itself with `git lfs pull`")),
    (b"<!DOCTYPE", _HTML),
    (b"<!doctype", _HTML),
    (b"<html", _HTML),
)
# Kinds that are training data if the file has this suffix.
_ACCEPTED = {".parquet": _PARQUET, ".xlsx": _ZIP}


def foreign_kind(start: bytes) -> ForeignKind | None:
    """The kind of a file by its first bytes; None for UTF-8 text and for unknown kinds."""
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start[_TAR_MARK] == b"ustar":
        return ForeignKind("a tar file", _UNPACK)
    if start.startswith(_RIFF) and start[8:12] == b"WEBP":
        return ForeignKind("a WebP image", _SAVE_AS_TEXT)
    if encoding := _wide_encoding(start):
        kind = "UTF-32" if "32" in encoding else "UTF-16"
        return ForeignKind(f"{kind} text", f"Save it as UTF-8, or read it with --encoding {encoding}")
    return None


def refuse_foreign_file(name: str, start: bytes) -> None:
    """Checks the first bytes of training data called `name`.

    Raises:
        Invalid: it is a file of another kind; the message names the kind and says what to do.
    """
    kind = foreign_kind(start)
    if kind is not None and kind is not _ACCEPTED.get(Path(name).suffix.lower()):
        raise Invalid(f"{name} is not training data: it is {kind.title}. {kind.mend}.", param="file")


def _wide_encoding(start: bytes) -> str | None:
    """UTF-16 or UTF-32 by the byte order mark, or UTF-16 by the zero bytes of ASCII letters; the encoding's name."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = start[:8]
    if len(head) == 8 and all(head[::2]) and not any(head[1::2]):
        return "utf-16-le"
    if len(head) == 8 and all(head[1::2]) and not any(head[::2]):
        return "utf-16-be"
    return None
