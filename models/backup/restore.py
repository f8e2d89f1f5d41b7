"""Restoring a backup: checked first, unpacked beside what is there, then put in place.

Replaced files are moved to a folder of the home, `.replaced-…`, and stay there until somebody deletes it.
"""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from models.backup.archive import Manifest, check_hash, read_manifest
from models.backup.databases import NAMES, has_tables, kind_of, move_paths, restore_postgresql
from models.database import Database, new_ulid
from models.errors import Conflict, Invalid, ParleyError
from models.files.atomic import lock_file
from models.settings.settings import Settings
from models.tables import ModelRow

_LOCK, _STAGING = "up.lock", ".restoring-"
_TEXTS = (".json", ".jsonl", ".toml", ".log")  # records of a run or a model, which contain paths of the home


@dataclass(frozen=True)
class Restored:
    """A restored home. `replaced` is the folder with what was there before; `missing` are models without weights."""

    home: Path
    manifest: Manifest
    files: int
    replaced: Path | None
    missing: tuple[str, ...]


def restore_backup(settings: Settings, path: Path, *, replace: bool = False) -> Restored:
    """Restores a backup into the settings' home and database, which may differ from the original ones.

    Args:
        replace: restore even if the home or the database is not empty. Weights stay if the backup has none.

    Raises:
        NotFound: there is no such file.
        Invalid: it is not a complete backup, a byte was changed, or it has another kind of database.
        Conflict: the home or the database is not empty, or Parley runs from this home.
        Unavailable: the database cannot be restored.
    """
    check_hash(path)
    with _opened(path) as archive:
        manifest = read_manifest(archive)
        _require_kind(settings, manifest)
        _require_room(settings, replace=replace)
        settings.home.mkdir(parents=True, exist_ok=True)
        # The lock of `parley up`.
        running = f"Parley is running from {settings.home}: stop it first."
        with lock_file(settings.home / _LOCK, running, Conflict):
            for left_over in settings.home.glob(f"{_STAGING}*"):
                shutil.rmtree(left_over, ignore_errors=True)
            staging = settings.home / f"{_STAGING}{new_ulid()}"
            try:
                archive.extractall(staging, filter=_inside)  # noqa: S202 -- the filter refuses what leads outside
                return _put_in_place(settings, manifest, staging)
            except ParleyError:
                raise
            except (OSError, tarfile.TarError) as error:
                raise Invalid(f"{path} cannot be restored: {error}.", param="file") from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except tarfile.TarError as error:
        raise Invalid(f"{path} is no backup: it is not a tar archive.", param="file") from error


def _require_kind(settings: Settings, manifest: Manifest) -> None:
    if manifest.database == kind_of(settings):
        return
    cure = "unset PARLEY_DATABASE_URL" if manifest.database == "sqlite" else "set PARLEY_DATABASE_URL"
    raise Invalid(f"This backup contains a {manifest.database} database: {cure}, and run the command again.")


def _require_room(settings: Settings, *, replace: bool) -> None:
    if replace:
        return
    if settings.home.is_dir() and any(not _is_left_over(entry) for entry in settings.home.iterdir()):
        raise Conflict(f"The home {settings.home} is not empty: set PARLEY_HOME to an empty folder, or use --replace.")
    if has_tables(settings):
        raise Conflict("The database is not empty: use an empty one, or --replace.")


def _is_left_over(entry: Path) -> bool:
    """Whether it comes from a restore that failed or was killed."""
    return entry.name == _LOCK or entry.name.startswith(_STAGING)


def _inside(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo:
    """A member unchanged, but never outside the target; a link may point elsewhere, as the original did."""
    if member.issym():
        return member
    return tarfile.data_filter(member, target).replace(mode=member.mode, deep=False)


def _put_in_place(settings: Settings, manifest: Manifest, staging: Path) -> Restored:
    old, new = manifest.home, str(settings.home)
    copy, home = staging / "database" / NAMES[manifest.database], staging / "home"
    home.mkdir(exist_ok=True)
    for folder in ("runs", "models"):
        _rewrite(home / folder, old, new)
    files = sum(path.is_symlink() or not path.is_dir() for path in home.rglob("*"))
    if manifest.database == "sqlite":
        move_paths(f"sqlite:///{copy}", old, new)
        copy.rename(home / NAMES["sqlite"])
    replaced = settings.home / f".replaced-{new_ulid()}"
    replaced.mkdir()
    if manifest.database == "postgresql":
        restore_postgresql(settings, copy)
        move_paths(settings.database_address, old, new)
    for entry in sorted(home.iterdir()):
        target = settings.home / entry.name
        if target.exists() or target.is_symlink():
            target.rename(replaced / entry.name)
        entry.rename(target)
    if not any(replaced.iterdir()):
        replaced.rmdir()
    return Restored(settings.home, manifest, files, replaced if replaced.exists() else None, _missing(settings))


def _rewrite(folder: Path, old: str, new: str) -> None:
    """Replaces the home's folder in the records of runs and models."""
    if old == new:
        return
    for path in folder.rglob("*"):
        if path.suffix in _TEXTS and path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            changed = content.replace(f"{old}/".encode(), f"{new}/".encode())
            if changed != content:
                path.write_bytes(changed)


def _missing(settings: Settings) -> tuple[str, ...]:
    """The models whose folder is not on this machine."""
    database = Database(settings.database_address)
    try:
        with database.read() as session:
            rows = session.execute(select(ModelRow.id, ModelRow.spec).where(ModelRow.state != "retired"))
            paths = [(name, str(spec.get("path") or "")) for name, spec in rows]
    except ParleyError:
        return ()
    finally:
        database.dispose()
    return tuple(name for name, path in paths if path.startswith("/") and not Path(path).exists())
