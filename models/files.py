"""Uploaded files, for every room: bytes in the files folder, a row in the database, whole or not at all.

It knows purposes and expiry, not HTTP (models/api.py) and not what is in a file: who uses one checks it.
"""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import or_, select

from models.atomic import IncomingFile, incoming_file, sweep
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.settings import Settings
from models.tables import FileRow

# What OpenAI lets a client upload files for. Parley itself also keeps files of other purposes, such as results.
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
RESULTS = "fine-tune-results"
MAX_LISTED = 10_000
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A kill between the bytes and the row leaves bytes that nobody knows. A slow upload is not older than this.
_ABANDONED_S = 24 * 3600.0
_AGAIN_WITHIN = timedelta(minutes=15)  # how long a client may take to ask once more for what it got no answer to


@dataclass(frozen=True)
class StoredFile:
    """One file: `size` in bytes, `path` where its bytes are, `expires` None for one that stays."""

    id: str
    filename: str
    purpose: str
    size: int
    sha256: str
    created: datetime
    path: Path
    expires: datetime | None = None


@dataclass(frozen=True)
class FilePage:
    """A part of the list of files, and whether there are more behind it."""

    files: tuple[StoredFile, ...]
    has_more: bool


class Files:
    """The uploaded files of one home. The row is written after the bytes, and removed before them.

    A file that has expired is gone at once for whoever asks; `sweep` removes its bytes a little later.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self.folder = settings.files_dir
        self.limit = int(settings.max_upload_mib * 2**20)
        self._database = database

    def store(
        self, filename: str, content: bytes, purpose: str, *, expires_after: timedelta | None = None
    ) -> StoredFile:
        """Keeps a file; durable when this returns.

        Raises:
            Invalid: it is empty. NoSpace: the disk is full.
        """
        with self.incoming() as incoming:
            incoming.write(content)
            return self.save(incoming, filename, purpose, expires_after=expires_after)

    def incoming(self) -> AbstractContextManager[IncomingFile]:
        """A file to write pieces to, for `keep`; what is not kept in the block is removed."""
        return incoming_file(self.folder, self.limit)

    def save(
        self, incoming: IncomingFile, filename: str, purpose: str, *, expires_after: timedelta | None = None
    ) -> StoredFile:
        """Keeps what has come in; durable when this returns.

        Raises:
            Invalid: it is empty. NoSpace: the disk is full.
        """
        row = self.publish(incoming, filename, purpose, expires_after=expires_after)
        try:
            with self._database.write() as session:
                session.add(row)
        except BaseException:
            (self.folder / row.id).unlink(missing_ok=True)
            raise
        return self.to_stored_file(row)

    def find_duplicate(self, incoming: IncomingFile, filename: str, purpose: str) -> StoredFile | None:
        """The same file, where it was kept within the last quarter of an hour: for a client that got no answer."""
        query = select(FileRow).where(
            FileRow.sha256 == incoming.sha256.hexdigest(),
            FileRow.filename == sanitise_filename(filename),
            FileRow.purpose == purpose,
            FileRow.created > utcnow() - _AGAIN_WITHIN,
            or_(FileRow.expires.is_(None), FileRow.expires > utcnow()),
        )
        with self._database.read() as session:
            row = session.scalar(query.order_by(FileRow.id.desc()).limit(1))
        return self.to_stored_file(row) if row else None

    def publish(
        self, incoming: IncomingFile, filename: str, purpose: str, *, expires_after: timedelta | None = None
    ) -> FileRow:
        """The first half of `keep`: the bytes are in place; the row that it returns is the caller's to add."""
        if not incoming.size:
            raise Invalid(f"The file {filename!r} is empty.", param="file")
        now = utcnow()
        row = FileRow(
            id=f"file-{new_ulid()}",
            filename=sanitise_filename(filename),
            purpose=purpose,
            size=incoming.size,
            sha256=incoming.sha256.hexdigest(),
            created=now,
            expires=now + expires_after if expires_after else None,
        )
        incoming.publish(row.id)
        return row

    def get(self, file_id: str) -> StoredFile:
        """One file.

        Raises:
            NotFound: there is none with that id, or it has expired.
        """
        row = None
        if _ID.fullmatch(file_id):
            with self._database.read() as session:
                row = session.get(FileRow, file_id)
        if row is None or (row.expires is not None and row.expires <= utcnow()):
            raise NotFound(f"There is no file {file_id[:80]!r}.", param="file_id")
        return self.to_stored_file(row)

    def list(self, purpose: str | None = None) -> list[StoredFile]:
        """The files, newest first."""
        return list(self._select(purpose, None, None, "desc"))

    def page(
        self, *, purpose: str | None = None, after: str | None = None, limit: int = MAX_LISTED, order: str = "desc"
    ) -> FilePage:
        """Files by age. An id begins with its time, so that pages lose and repeat none, whatever is deleted meanwhile.

        Args:
            after: the last id of the page before; that file need not be there any more.
            order: "desc", newest first, or "asc".

        Raises:
            Invalid: `after` is no file's id, or the order is another.
        """
        if order not in ("asc", "desc"):
            raise Invalid(f"order is asc or desc, not {order[:40]!r}.", param="order")
        if after is not None and not (_ID.fullmatch(after) and after.startswith("file-")):
            raise Invalid(f"after must be the id of a file, not {after[:80]!r}.", param="after")
        found = tuple(self._select(purpose, after, limit + 1, order))
        return FilePage(found[:limit], len(found) > limit)

    def delete(self, file_id: str) -> None:
        """Removes a file.

        Raises:
            NotFound: there is none with that id.
        """
        self.get(file_id)
        self._remove([file_id])

    def sweep(self) -> int:
        """Removes files that have expired, and what killed uploads left; says how many."""
        with self._database.read() as session:
            expired = list(session.scalars(select(FileRow.id).where(FileRow.expires <= utcnow())))
        if expired:
            self._remove(expired)
        return len(expired) + self._sweep_unknown() + sweep(self.folder, older_than_s=_ABANDONED_S)

    def to_stored_file(self, row: FileRow) -> StoredFile:
        """The file that a row is of."""
        path = self.folder / row.id
        return StoredFile(row.id, row.filename, row.purpose, row.size, row.sha256, row.created, path, row.expires)

    def _select(self, purpose: str | None, after: str | None, limit: int | None, order: str) -> Iterable[StoredFile]:
        query = select(FileRow).where(or_(FileRow.expires.is_(None), FileRow.expires > utcnow()))
        if purpose:
            query = query.where(FileRow.purpose == purpose)
        if after is not None:
            query = query.where(FileRow.id > after if order == "asc" else FileRow.id < after)
        query = query.order_by(FileRow.id.asc() if order == "asc" else FileRow.id.desc()).limit(limit)
        with self._database.read() as session:
            return [self.to_stored_file(row) for row in session.scalars(query)]

    def _remove(self, file_ids: Iterable[str]) -> None:
        for file_id in file_ids:
            with self._database.write() as session:
                row = session.get(FileRow, file_id)
                if row is not None:
                    session.delete(row)
            (self.folder / file_id).unlink(missing_ok=True)

    def _sweep_unknown(self) -> int:
        limit = utcnow().timestamp() - _ABANDONED_S
        old = [path for path in self.folder.glob("file-*") if path.is_file() and path.stat().st_mtime <= limit]
        if not old:
            return 0
        with self._database.read() as session:
            known = set(session.scalars(select(FileRow.id)))
        unknown = [path for path in old if path.name not in known]
        for path in unknown:
            path.unlink(missing_ok=True)
        return len(unknown)


def sanitise_filename(filename: str) -> str:
    """A client's file name without folders and control characters, at most 255 characters."""
    return _CONTROL.sub("", Path(filename.replace("\\", "/")).name)[:255] or "file"


def validate_purpose(purpose: object) -> str:
    """A purpose that a client may name.

    Raises:
        Invalid: it is none of PURPOSES.
    """
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        given = f"{purpose[:40]!r}" if isinstance(purpose, str) and purpose else "missing"
        raise Invalid(f"purpose is {given}. It must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose
