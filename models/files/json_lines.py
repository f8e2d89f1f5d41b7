"""JSONL files that commands write: completely or not at all, and never over an existing one without consent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, NoSpace
from models.files.atomic import incoming_file


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as one line of UTF-8."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def write_json_lines(out: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes JSONL, completely or not at all; returns the number of rows.

    Raises:
        NoSpace: the disk is full. Invalid: the folder cannot be written.
    """
    written = 0
    try:
        with incoming_file(out.parent) as file:
            for row in rows:
                file.write(json_line(row))
                written += 1
            file.publish(out.name)
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{out} cannot be written: {error.strerror}.", param="out") from error
    return written


def refuse_overwrite(paths: Sequence[Path], force: bool) -> None:
    """Checks that no file would be overwritten without `force`.

    Raises:
        Conflict: one of the files exists. Invalid: it is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise Invalid(f"{path} is a folder: give the name of a file.", param="out")
        if path.exists() and not force:
            raise Conflict(f"{path} exists: choose another file, or overwrite it with --force.", param="out")
