"""Writes a report as one file."""

from pathlib import Path

from models.errors import Invalid, NoSpace
from models.files.atomic import atomic_write


def write_file(path: Path, data: str | bytes, param: str = "html") -> None:
    """Writes a report as one file, whole or not at all.

    Raises:
        Invalid: the file cannot be written.
        NoSpace: the disk is full.
    """
    if path.is_dir():
        raise Invalid(f"{path} is a folder: name a file.", param=param)
    try:
        atomic_write(path, data.encode("utf-8", "replace") if isinstance(data, str) else data)
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param=param) from error
