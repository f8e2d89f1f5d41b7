"""The files of a folder with weights: their names, sizes and SHA-256 hashes."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class FileEntry:
    """A file's size in bytes, and its SHA-256 hash in hexadecimal digits."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a folder by their paths in it, with slashes."""

    files: Mapping[str, FileEntry]

    @cached_property
    def digest(self) -> str:
        """A hash of the whole folder."""
        rows = sorted((name, entry.size, entry.sha256) for name, entry in self.files.items())
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def file_sizes(folder: Path) -> dict[str, int]:
    """Path in the folder → size, of all files except hidden ones.

    Raises:
        OSError: the folder cannot be read.
    """
    sizes = {}
    for top, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                path = Path(top, name)
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    return sizes


def make_manifest(folder: Path) -> Manifest:
    """Reads and hashes every file of a folder.

    Raises:
        OSError: a file cannot be read.
    """
    files = {}
    for name, size in file_sizes(folder).items():
        with (folder / name).open("rb") as stream:
            files[name] = FileEntry(size, hashlib.file_digest(stream, "sha256").hexdigest())
    return Manifest(files)


def _raise(error: OSError) -> None:
    raise error
