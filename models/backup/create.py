"""Makes a backup while Parley runs. The database is copied first, so that the files that it names exist."""

import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.backup.archive import HashingStream, Manifest, add_file, add_manifest
from models.backup.contents import home_files
from models.backup.databases import NAMES, dump, kind_of
from models.database import utcnow
from models.errors import Conflict, Invalid, ParleyError
from models.settings.settings import Settings


@dataclass(frozen=True)
class Backup:
    """A backup: its file, its size in bytes, and the number of the home's files in it."""

    path: Path
    size: int
    files: int
    manifest: Manifest


def create_backup(
    settings: Settings, path: Path, *, weights: bool = False, report: Callable[[str], None] = lambda name: None
) -> Backup:
    """Writes a backup of the home and its database to a file, whole or not at all. Parley may run.

    Args:
        weights: include models/ and the checkpoints of runs.
        report: is called with each file's name.

    Raises:
        Conflict: the file exists. Invalid: it cannot be written, or lies inside the home.
        Unavailable: the database cannot be copied.
    """
    if path.exists():
        raise Conflict(f"{path} exists already: name a new file.", param="file")
    if path.absolute().is_relative_to(settings.home):
        raise Invalid(f"{path} is inside the home that is backed up: name a file elsewhere.", param="file")
    kind = kind_of(settings)
    manifest = Manifest(kind, str(settings.home), weights, utcnow().isoformat(timespec="seconds"))
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".parley-backup-") as name:
            copy, pending = Path(name) / NAMES[kind], Path(name) / "backup"
            dump(settings, copy)
            files = _write(settings, manifest, copy, pending, report)
            pending.rename(path)
    except ParleyError:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="file") from error
    return Backup(path, path.stat().st_size, files, manifest)


def _write(settings: Settings, manifest: Manifest, copy: Path, pending: Path, report: Callable[[str], None]) -> int:
    """Writes the archive; returns the number of the home's files. Only its owner can read the file."""
    files = 0
    with os.fdopen(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        stream = HashingStream(file)
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:  # pyrefly: ignore -- it only writes
            add_manifest(archive, manifest)
            add_file(archive, copy, f"database/{copy.name}")
            copy.unlink()
            for name in home_files(settings.home, weights=manifest.weights):
                report(str(name))
                files += add_file(archive, settings.home / name, f"home/{name}")
        stream.seal()
        file.flush()
        os.fsync(file.fileno())
    return files
