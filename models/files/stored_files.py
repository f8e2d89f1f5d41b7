"""Uploaded files: content in the files folder, a row in the database, both or neither.

The HTTP routes are in models/api.py. A file's content is checked by whoever uses it.
"""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select

from models.database import Database, new_ulid, utcnow
from models.errors import Forbidden, Invalid, NotFound
from models.files.atomic import IncomingFile, incoming_file, sweep
from models.files.file_kinds import refuse_foreign_file
from models.settings.settings import Settings
from models.tables import FileRow

# The purposes that OpenAI accepts in uploads. Parley itself also stores files with other purposes, such as results.
PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
TRAINING = "fine-tune"
BATCH, BATCH_RESULTS = "batch", "batch_output"
RESULTS = "fine-tune-results"
MAX_LISTED = 10_000
MAX_BATCH_BYTES = 200 * 2**20  # OpenAI's limit for a batch's input
# OpenAI's limits for `expires_after`: one hour and thirty days.
MIN_LIFETIME_S, MAX_LIFETIME_S = 3600, 2_592_000
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A kill between writing the file and its row leaves a file without a row. No upload takes longer than this.
_ABANDONED_S = 24 * 3600.0
_BATCH_LIFETIME = timedelta(days=30)  # of a batch's input without `expires_after`, as at OpenAI
_RETRY_WINDOW = timedelta(minutes=15)  # in which a repeated upload returns the first one's file


@dataclass(frozen=True)
class StoredFile:
    """One file: `size` in bytes, `path` of its content, `expires` None if it does not expire."""

    id: str
    filename: str
    purpose: str
    size: int
    sha256: str
    created: datetime
    path: Path
    expires: datetime | None = None
    key_id: str = ""


@dataclass(frozen=True)
class FileAccess:
    """On behalf of which key files are used. `own_only`: it is a client's, which sees only its own files."""

    key_id: str = ""
    own_only: bool = False


@dataclass(frozen=True)
class FilePage:
    """A page of files, and whether more follow."""

    files: tuple[StoredFile, ...]
    has_more: bool


class Files:
    """The uploaded files of one home. A row is written after the content and removed before it.

    An expired file is hidden at once; `sweep` removes it later.
    """

    def __init__(self, settings: Settings, database: Database, access: FileAccess | None = None) -> None:
        self.folder = settings.files_dir
        self.limit = int(settings.max_upload_mib * 2**20)
        self._database = database
        self._key_id, self._own_only = (access.key_id, access.own_only) if access is not None else ("", False)
        if self._own_only:
            self.limit = min(self.limit, MAX_BATCH_BYTES)
        self._key_limit = int(settings.client_files_mib * 2**20)

    def check_upload(self, purpose: str, size: int) -> None:
        """Checks whether the key may store another file of `size` bytes.

        Raises:
            Forbidden: a client's key may store files for batches only, and none beyond the setting `client_files_mib`.
        """
        if not self._own_only:
            return
        if purpose != BATCH:
            raise Forbidden(f"A client's key may only upload files with the purpose {BATCH}.", param="purpose")
        query = select(func.coalesce(func.sum(FileRow.size), 0)).where(FileRow.key_id == self._key_id)
        with self._database.read() as session:
            stored = int(session.scalar(query) or 0)
        if stored + size > self._key_limit:
            raise Forbidden(
                f"This key may store {self._key_limit:,} bytes of files and has stored {stored:,}. Delete files that "
                "you no longer need.",
                code="file_quota_exceeded",
                param="file",
            )

    def store(
        self, filename: str, content: bytes, purpose: str, *, expires_after: timedelta | None = None
    ) -> StoredFile:
        """Stores a file; durable when this returns.

        Raises:
            Invalid: it is empty. NoSpace: the disk is full.
        """
        with self.incoming() as incoming:
            incoming.write(content)
            return self.save(incoming, filename, purpose, expires_after=expires_after)

    def incoming(self) -> AbstractContextManager[IncomingFile]:
        """A file to write to, for `save`. It is removed unless saved inside the block."""
        return incoming_file(self.folder, self.limit)

    def save(
        self, incoming: IncomingFile, filename: str, purpose: str, *, expires_after: timedelta | None = None
    ) -> StoredFile:
        """Stores an incoming file; durable when this returns.

        Raises:
            Invalid: as `publish`. NoSpace: the disk is full.
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
        """An equal file stored within the last 15 minutes: the result of a request that the client now repeats."""
        query = select(FileRow).where(
            FileRow.sha256 == incoming.sha256.hexdigest(),
            FileRow.filename == sanitise_filename(filename),
            FileRow.purpose == purpose,
            FileRow.key_id == self._key_id,
            FileRow.created > utcnow() - _RETRY_WINDOW,
            or_(FileRow.expires.is_(None), FileRow.expires > utcnow()),
        )
        with self._database.read() as session:
            row = session.scalar(query.order_by(FileRow.id.desc()).limit(1))
        return self.to_stored_file(row) if row else None

    def publish(
        self, incoming: IncomingFile, filename: str, purpose: str, *, expires_after: timedelta | None = None
    ) -> FileRow:
        """Publishes the content only; returns the row, which the caller must add to the database.

        Raises:
            Invalid: it is empty, or of a kind that is not training data, such as gzip, and its purpose is training.
        """
        if not incoming.size:
            raise Invalid(f"The file {filename!r} is empty.", param="file")
        if purpose == TRAINING:
            refuse_foreign_file(sanitise_filename(filename), incoming.head)
        if purpose == BATCH and expires_after is None:
            expires_after = _BATCH_LIFETIME
        now = utcnow()
        row = FileRow(
            id=f"file-{new_ulid()}",
            filename=sanitise_filename(filename),
            purpose=purpose,
            size=incoming.size,
            sha256=incoming.sha256.hexdigest(),
            created=now,
            expires=now + expires_after if expires_after else None,
            key_id=self._key_id,
        )
        incoming.publish(row.id)
        return row

    def get(self, file_id: str) -> StoredFile:
        """One file.

        Raises:
            NotFound: there is none with that id, it has expired, or it is another key's.
        """
        row = None
        if _ID.fullmatch(file_id):
            with self._database.read() as session:
                row = session.get(FileRow, file_id)
        if row is None or (row.expires is not None and row.expires <= utcnow()) or not self._may_read(row):
            raise NotFound(f"There is no file {file_id[:80]!r}.", param="file_id")
        return self.to_stored_file(row)

    def list(self, purpose: str | None = None) -> list[StoredFile]:
        """The files, newest first."""
        return list(self._select(purpose, None, None, "desc"))

    def page(
        self, *, purpose: str | None = None, after: str | None = None, limit: int = MAX_LISTED, order: str = "desc"
    ) -> FilePage:
        """One page of files by age. Ids sort by time, so pages neither skip nor repeat files when others are deleted.

        Args:
            after: the last id of the previous page; that file may be deleted.
            order: "desc", newest first, or "asc".

        Raises:
            Invalid: `after` is not a file's id, or `order` is unknown.
        """
        if order not in ("asc", "desc"):
            raise Invalid(f"order is asc or desc, not {order[:40]!r}.", param="order")
        if after is not None and not (_ID.fullmatch(after) and after.startswith("file-")):
            raise Invalid(f"after must be the id of a file, not {after[:80]!r}.", param="after")
        files = tuple(self._select(purpose, after, limit + 1, order))
        return FilePage(files[:limit], len(files) > limit)

    def delete(self, file_id: str) -> None:
        """Removes a file.

        Raises:
            NotFound: there is none with that id.
        """
        self.get(file_id)
        self._remove([file_id])

    def sweep(self) -> int:
        """Removes expired files and leftovers of killed uploads; returns how many."""
        with self._database.read() as session:
            expired = list(session.scalars(select(FileRow.id).where(FileRow.expires <= utcnow())))
        if expired:
            self._remove(expired)
        return len(expired) + self._sweep_unknown() + sweep(self.folder, older_than_s=_ABANDONED_S)

    def to_stored_file(self, row: FileRow) -> StoredFile:
        """Converts a row."""
        path = self.folder / row.id
        return StoredFile(
            row.id, row.filename, row.purpose, row.size, row.sha256, row.created, path, row.expires, row.key_id
        )

    def _may_read(self, row: FileRow) -> bool:
        return not self._own_only or row.key_id == self._key_id

    def _select(self, purpose: str | None, after: str | None, limit: int | None, order: str) -> Iterable[StoredFile]:
        query = select(FileRow).where(or_(FileRow.expires.is_(None), FileRow.expires > utcnow()))
        if purpose:
            query = query.where(FileRow.purpose == purpose)
        if self._own_only:
            query = query.where(FileRow.key_id == self._key_id)
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
    """A client's file name without folders and control characters, at most 255 characters long."""
    return _CONTROL.sub("", Path(filename.replace("\\", "/")).name)[:255] or "file"


def validate_purpose(purpose: object) -> str:
    """Returns a purpose that a client may use.

    Raises:
        Invalid: it is not one of PURPOSES.
    """
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        given = f"{purpose[:40]!r}" if isinstance(purpose, str) and purpose else "missing"
        raise Invalid(f"purpose is {given}. It must be one of {', '.join(PURPOSES)}.", param="purpose")
    return purpose


def parse_expires_after(expires_after: Any) -> timedelta | None:
    """A file's lifetime from `{"anchor": "created_at", "seconds": 3600}`; None where it is not set.

    Raises:
        Invalid: it is something else, or not within OpenAI's limits.
    """
    if expires_after is None:
        return None
    if not isinstance(expires_after, dict) or expires_after.get("anchor") != "created_at":
        raise Invalid("expires_after.anchor must be created_at.", param="expires_after.anchor")
    seconds = expires_after.get("seconds")
    whole = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not whole or not MIN_LIFETIME_S <= seconds <= MAX_LIFETIME_S:
        raise Invalid(
            f"expires_after.seconds must be from {MIN_LIFETIME_S} to {MAX_LIFETIME_S}.",
            param="expires_after.seconds",
        )
    return timedelta(seconds=seconds)
