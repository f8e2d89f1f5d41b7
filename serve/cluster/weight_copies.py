"""Copies of models' weights on a node of a cluster: received in pieces, verified by their hashes, then published."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from models.errors import Conflict, ParleyError
from models.files.atomic import claim_folder, publish_folder, sweep
from serve.cluster.manifest import Manifest, file_sizes


class _Discarded(Exception):
    """Raised to end a copy that will not be completed."""


class WeightCopies:
    """The copies under `folder`. One is received at a time: `begin`, `write` for each piece in order, then `finish`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = Manifest({})
        self._pending = ExitStack()
        self._path = folder
        self._hashes: dict[str, Any] = {}

    def begin(self, manifest: Manifest) -> Path | None:
        """The folder of a complete copy; None if there is none, and the files have to be sent.

        Raises:
            ParleyError, OSError: the node cannot store files.
        """
        self.discard()
        if (complete := self._folder / manifest.digest).is_dir():
            return complete
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)
        self._manifest, self._hashes = manifest, {name: hashlib.sha256() for name in manifest.files}
        self._path = self._pending.enter_context(publish_folder(self._folder, manifest.digest)).path
        for name in manifest.files:
            (self._path / name).parent.mkdir(parents=True, exist_ok=True)
            (self._path / name).touch()
        return None

    def write(self, name: str, piece: bytes) -> None:
        """Appends a piece to a file.

        Raises:
            OSError: the disk is full.
        """
        with (self._path / name).open("ab") as stream:
            stream.write(piece)
        self._hashes[name].update(piece)

    def finish(self) -> Path:
        """Publishes the copy if all of its files match the manifest, otherwise deletes it; returns its folder.

        Raises:
            ParleyError: a file is not the one that was sent, or the disk is full.
        """
        final = self._folder / self._manifest.digest
        # Another program may have published the same files meanwhile.
        with suppress(Conflict), self._pending:
            for name, entry in self._manifest.files.items():
                if self._hashes[name].hexdigest() != entry.sha256:
                    raise ParleyError(f"the copy of the weights is damaged: {name} has another SHA-256 hash")
        claim_folder(final)
        return final

    def discard(self) -> None:
        """Deletes the files of a copy that was not finished."""
        with suppress(_Discarded), self._pending:
            raise _Discarded


def has_files(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Whether a folder on this machine has exactly these files, by names and sizes."""
    try:
        return folder.is_dir() and file_sizes(folder) == sizes
    except OSError:
        return False
