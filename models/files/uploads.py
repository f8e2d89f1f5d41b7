"""OpenAI's uploads: large files that arrive in parts. The HTTP routes are in models/api.py.

Parts may arrive concurrently and in any order; `complete` names the order. A repeated call returns the same result,
because the SDK repeats requests that got no response.
"""

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.files.atomic import IncomingFile, incoming_file
from models.files.stored_files import Files, StoredFile, sanitise_filename
from models.settings.settings import Settings
from models.tables import FileRow, UploadPartRow, UploadRow

PART_LIMIT = 64 * 2**20
_LIFETIME = timedelta(hours=1)
_READ_SIZE = 2**20

UploadStatus = Literal["pending", "completed", "cancelled", "expired"]


@dataclass(frozen=True)
class Upload:
    """One upload. `size`: the announced bytes; `file`: the completed file, None if pending or deleted."""

    id: str
    filename: str
    purpose: str
    mime_type: str
    size: int
    status: UploadStatus
    created: datetime
    expires: datetime
    file: StoredFile | None


@dataclass(frozen=True)
class UploadPart:
    """One complete part."""

    id: str
    upload_id: str
    size: int
    created: datetime


class Uploads:
    """The uploads of one home. A pending upload expires after an hour."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._files = Files(settings, database)
        self._folder = settings.files_dir / "uploads"
        self._database = database

    def create(
        self, *, filename: str, purpose: str, size: int, mime_type: str, file_expires_after: timedelta | None = None
    ) -> Upload:
        """Starts an upload of `size` bytes.

        Raises:
            Invalid: `size` is 0 or above the limit.
        """
        if not 0 < size <= self._files.limit:
            raise Invalid(f"bytes must be from 1 to {self._files.limit}, not {size}.", param="bytes")
        now = utcnow()
        row = UploadRow(
            id=f"upload_{new_ulid()}",
            filename=sanitise_filename(filename),
            purpose=purpose,
            mime_type=mime_type[:255],
            size=size,
            status="pending",
            created=now,
            expires=now + _LIFETIME,
            file_expires_after_s=int(file_expires_after.total_seconds()) if file_expires_after else None,
        )
        with self._database.write() as session:
            session.add(row)
        return _upload(row, None)

    def get(self, upload_id: str) -> Upload:
        """One upload.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.read() as session:
            return self._to_upload(session, _row(session, upload_id))

    def incoming_part(self, upload_id: str) -> AbstractContextManager[IncomingFile]:
        """A part to write to, for `save_part`. It is removed unless saved inside the block.

        Raises:
            NotFound: no such upload. Invalid: it accepts no more parts.
        """
        with self._database.read() as session:
            _pending(_row(session, upload_id))
        return incoming_file(self._folder / upload_id, PART_LIMIT)

    def save_part(self, upload_id: str, incoming: IncomingFile) -> UploadPart:
        """Stores a complete part.

        Raises:
            Invalid: it is empty, or the upload accepts no more parts.
        """
        if not incoming.size:
            raise Invalid("The part is empty.", param="data")
        row = UploadPartRow(id=f"part_{new_ulid()}", upload_id=upload_id, size=incoming.size, created=utcnow())
        try:
            path = incoming.publish(row.id)
        except FileNotFoundError:
            # The upload has ended meanwhile and its folder is gone; `_pending` raises with its status.
            with self._database.read() as session:
                _pending(_row(session, upload_id))
            raise
        try:
            with self._database.write() as session:
                _pending(_row(session, upload_id))
                session.add(row)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return UploadPart(row.id, upload_id, row.size, row.created)

    def complete(self, upload_id: str, part_ids: Sequence[str], md5: str | None = None) -> Upload:
        """Joins the parts in the given order into a file. Repeating it returns the same file.

        Raises:
            NotFound: no such upload. NoSpace: the disk is full.
            Invalid: a part of another upload, a different size or MD5, the upload has ended, or its file is of a kind
            that is not training data and its purpose is training.
            Conflict: another request has just ended it.
        """
        with self._database.read() as session:
            row = _row(session, upload_id)
            if row.status == "completed" and row.part_ids == list(part_ids):
                return self._to_upload(session, row)
            _pending(row)
            own = session.scalars(select(UploadPartRow).where(UploadPartRow.upload_id == upload_id))
            sizes = {part.id: part.size for part in own}
        _check_parts(row, part_ids, sizes)
        with self._files.incoming() as incoming:
            digest = self._join(upload_id, part_ids, incoming)
            if md5 is not None and md5.lower() != digest:
                raise Invalid(f"The parts have the MD5 {digest}, not {md5[:40]!r}: send them again.", param="md5")
            lifetime = timedelta(seconds=row.file_expires_after_s) if row.file_expires_after_s else None
            kept = self._files.publish(incoming, row.filename, row.purpose, expires_after=lifetime)
        try:
            done = self._close(upload_id, part_ids, kept)
        except BaseException:
            (self._files.folder / kept.id).unlink(missing_ok=True)
            raise
        if done.file is None or done.file.id != kept.id:
            # Two requests completed it at once; the other one's file is kept.
            (self._files.folder / kept.id).unlink(missing_ok=True)
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)
        return done

    def cancel(self, upload_id: str) -> Upload:
        """Cancels an upload and removes its parts. Repeating it changes nothing.

        Raises:
            NotFound: no such upload. Invalid: it is completed or expired.
        """
        with self._database.write() as session:
            row = _row(session, upload_id)
            if row.status != "cancelled":
                _pending(row)
                row.status = "cancelled"
                _delete_parts(session, upload_id)
            shown = self._to_upload(session, row)
        shutil.rmtree(self._folder / upload_id, ignore_errors=True)
        return shown

    def sweep(self) -> int:
        """Expires old uploads and removes the parts of all that have ended; returns how many expired."""
        with self._database.read() as session:
            old = select(UploadRow.id).where(UploadRow.status == "pending", UploadRow.expires <= utcnow())
            late = list(session.scalars(old))
        for upload_id in late:
            with self._database.write() as session:
                row = _row(session, upload_id)
                if row.status == "pending":
                    row.status = "expired"
                    _delete_parts(session, upload_id)
        for folder in self._folder.glob("upload_*"):
            with self._database.read() as session:
                row = session.get(UploadRow, folder.name)
            if row is None or row.status != "pending":
                shutil.rmtree(folder, ignore_errors=True)
        return len(late)

    def _join(self, upload_id: str, part_ids: Sequence[str], incoming: IncomingFile) -> str:
        """Copies the parts in order; returns the MD5 of the whole in hex."""
        digest = hashlib.md5(usedforsecurity=False)
        for part_id in part_ids:
            try:
                part = (self._folder / upload_id / part_id).open("rb")
            except FileNotFoundError as error:
                raise Conflict(f"Another request has just ended the upload {upload_id}.", retry_after=1) from error
            with part:
                while piece := part.read(_READ_SIZE):
                    incoming.write(piece)
                    digest.update(piece)
        return digest.hexdigest()

    def _close(self, upload_id: str, part_ids: Sequence[str], kept: FileRow) -> Upload:
        with self._database.write() as session:
            row = session.get_one(UploadRow, upload_id, with_for_update=True)
            if row.status != "completed" or row.part_ids != list(part_ids):
                _pending(row)
                session.add(kept)
                row.status, row.file_id, row.part_ids = "completed", kept.id, list(part_ids)
                _delete_parts(session, upload_id)
                session.flush()
            return self._to_upload(session, row)

    def _to_upload(self, session: Session, row: UploadRow) -> Upload:
        file = session.get(FileRow, row.file_id) if row.file_id else None
        return _upload(row, self._files.to_stored_file(file) if file else None)


def sweep_uploaded(settings: Settings, database: Database) -> int:
    """Removes expired files and expired uploads; returns how many."""
    return Files(settings, database).sweep() + Uploads(settings, database).sweep()


def _check_parts(row: UploadRow, part_ids: Sequence[str], sizes: dict[str, int]) -> None:
    unknown = [part_id for part_id in part_ids if part_id not in sizes]
    if unknown:
        raise Invalid(f"The upload {row.id} has no part {unknown[0][:80]!r}.", param="part_ids")
    if len(set(part_ids)) != len(part_ids):
        raise Invalid("part_ids contains a part twice.", param="part_ids")
    total = sum(sizes[part_id] for part_id in part_ids)
    if total != row.size:
        raise Invalid(f"The parts have {total} bytes in total; {row.size} were announced.", param="part_ids")


def _row(session: Session, upload_id: str) -> UploadRow:
    known = upload_id.isascii() and upload_id.replace("_", "").isalnum()
    row = session.get(UploadRow, upload_id) if known else None
    if row is None:
        raise NotFound(f"There is no upload {upload_id[:80]!r}.", param="upload_id")
    return row


def _delete_parts(session: Session, upload_id: str) -> None:
    session.execute(delete(UploadPartRow).where(UploadPartRow.upload_id == upload_id))


def _pending(row: UploadRow) -> None:
    status = _status(row)
    if status != "pending":
        raise Invalid(f"The upload {row.id} is {status}: create a new one.", param="upload_id")


def _status(row: UploadRow) -> UploadStatus:
    late = row.status == "pending" and row.expires <= utcnow()
    return "expired" if late else cast(UploadStatus, row.status)


def _upload(row: UploadRow, file: StoredFile | None) -> Upload:
    return Upload(
        id=row.id,
        filename=row.filename,
        purpose=row.purpose,
        mime_type=row.mime_type,
        size=row.size,
        status=_status(row),
        created=row.created,
        expires=row.expires,
        file=file,
    )
