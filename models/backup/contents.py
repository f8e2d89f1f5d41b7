"""Which files of a home belong in a backup.

Everything does, except files that each start creates, logs, locks, and unfinished files. Weights and checkpoints are
included only on request, because models/ and the checkpoints in runs/ are most of a home's size.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_DATABASE = {f"parley.db{suffix}" for suffix in ("", "-journal", "-wal", "-shm")}
_NEVER = {*_DATABASE, "up.json", "up.lock", "engine.key", "logs", "cache", "gateways"}
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
_CHECKPOINTS = {"checkpoints", "trainer"}  # folders of a run


def home_files(home: Path, *, weights: bool) -> Iterator[Path]:
    """The files, links and empty folders of a home, relative to it and sorted."""
    for entry in sorted(os.scandir(home), key=lambda entry: entry.name) if home.is_dir() else ():
        if entry.name in _NEVER or entry.name.startswith("."):
            continue
        if entry.name == "models" and not weights:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _folder(Path(entry.path), home, weights=weights)
        else:
            yield Path(entry.name)


def _folder(top: Path, home: Path, *, weights: bool) -> Iterator[Path]:
    for path, folders, files in os.walk(top):
        folders.sort()
        here = Path(path)
        if not weights:
            folders[:] = [name for name in folders if name not in _CHECKPOINTS]
            files = [name for name in files if Path(name).suffix not in _WEIGHTS]
        folders[:] = [name for name in folders if not name.startswith(".pending-")]
        links = [name for name in folders if (here / name).is_symlink()]
        files = [name for name in files if not name.startswith(".pending-") and not name.endswith(".lock")]
        for name in sorted((*files, *links)):
            yield (here / name).relative_to(home)
        if not files and not folders:
            yield here.relative_to(home)
