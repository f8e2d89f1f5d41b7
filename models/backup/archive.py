"""A backup's file: a tar archive, and after its end a line with the SHA-256 of all bytes before that line.

The first member is `manifest.json`, the others are the database under `database/` and the home's files under `home/`.
Any tar program can unpack it; the line is after the archive's end.
"""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from models.errors import Invalid, NotFound

_MARK = b"parley-backup sha256 "
_TRAILER = len(_MARK) + 64 + 1
_CHUNK = 2**20
_FORMAT = 1
DatabaseKind = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class Manifest:
    """A backup's description. `home` is the original folder: a restore rewrites paths inside it."""

    database: DatabaseKind
    home: str
    weights: bool
    created: str
    format: int = _FORMAT


class HashingStream(io.RawIOBase):
    """A stream to a file that hashes what is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Writes and hashes all of the data."""
        self._hash.update(data)
        self._size += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        """The number of bytes so far."""
        return self._size

    def seal(self) -> None:
        """Writes the line with the hash."""
        self._stream.write(_MARK + self._hash.hexdigest().encode() + b"\n")


def add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a small file."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def add_file(archive: tarfile.TarFile, path: Path, name: str) -> bool:
    """Adds a file, a symbolic link or an empty folder; false if it no longer exists, or is a socket or a pipe.

    If the file grows during this, only its original length is added.
    """
    try:
        info = archive.gettarinfo(path, name)
        if info is None or not (info.isreg() or info.issym() or info.islnk() or info.isdir()):
            return False
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        if not info.isreg():
            archive.addfile(info)
            return True
        with path.open("rb") as stream:
            info.size = os.fstat(stream.fileno()).st_size
            archive.addfile(info, _Exactly(stream, info.size))
    except FileNotFoundError:
        return False
    return True


class _Exactly(io.RawIOBase):
    """A stream of exactly that many bytes: a file that became shorter is padded with zeros."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted).ljust(wanted, b"\0")
        self._left -= wanted
        return data


def add_manifest(archive: tarfile.TarFile, manifest: Manifest) -> None:
    """Adds the manifest, which comes first."""
    add_bytes(archive, "manifest.json", json.dumps(asdict(manifest), indent=1).encode())


def check_hash(path: Path) -> int:
    """The size of a backup's archive, without the line after it.

    Raises:
        NotFound: there is no such file.
        Invalid: it is not a backup, is not complete, or a byte of it was changed.
    """
    try:
        with path.open("rb") as stream:
            left = os.fstat(stream.fileno()).st_size - _TRAILER
            size, digest = left, hashlib.sha256()
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
            trailer = stream.read()
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.", param="file") from error
    if not trailer.startswith(_MARK):
        raise Invalid(f"{path} is not a complete backup: its last line has no checksum.", param="file")
    if trailer != _MARK + digest.hexdigest().encode() + b"\n":
        raise Invalid(f"{path} was changed: its checksum is wrong. Use another copy of the backup.", param="file")
    return size


def read_manifest(archive: tarfile.TarFile) -> Manifest:
    """The manifest of an open archive.

    Raises:
        Invalid: it is missing, or a later version wrote it.
    """
    try:
        stream = archive.extractfile("manifest.json")
        values = json.loads(stream.read() if stream else b"")
        manifest = Manifest(**values)
    except (KeyError, ValueError, TypeError) as error:
        raise Invalid(
            "This version cannot read the backup's manifest: use the version that made the backup."
        ) from error
    if manifest.format != _FORMAT:
        raise Invalid("A later version of Parley made this backup: restore it with that version.")
    return manifest
