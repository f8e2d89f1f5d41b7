"""Uploaded files, for every room: bytes in the files folder, a row in the database, whole or not at all."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from models.database import Database, new_ulid
from models.errors import Invalid, NotFound
from models.folders import atomic_write
from models.settings import Settings
from models.tables import FileRow


@dataclass(frozen=True)
class StoredFile:
    """One file: `size` in bytes, `path` where its bytes are."""

    id: str
    filename: str
    purpose: str
    size: int
    sha256: str
    created: datetime
    path: Path


class Files:
    """The uploaded files of one home. The row is written after the bytes, and removed before them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._folder = settings.files_dir
        self._database = database

    def store(self, filename: str, content: bytes, purpose: str) -> StoredFile:
        """Keeps a file; durable when this returns.

        Raises:
            Invalid: it is empty. NoSpace: the disk is full.
        """
        if not content:
            raise Invalid(f"The file {filename!r} is empty.", param="file")
        row = FileRow(
            id=f"file-{new_ulid()}",
            filename=Path(filename).name[:255] or "file",
            purpose=purpose,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        atomic_write(self._folder / row.id, content)
        with self._database.write() as session:
            session.add(row)
        return self._stored(row)

    def get(self, file_id: str) -> StoredFile:
        """One file.

        Raises:
            NotFound: there is none with that id.
        """
        with self._database.read() as session:
            row = session.get(FileRow, file_id)
        if row is None:
            raise NotFound(f"There is no file {file_id!r}.", param="file_id")
        return self._stored(row)

    def list(self, purpose: str | None = None) -> list[StoredFile]:
        """The files, newest first."""
        query = select(FileRow).order_by(FileRow.created.desc(), FileRow.id.desc())
        if purpose:
            query = query.where(FileRow.purpose == purpose)
        with self._database.read() as session:
            return [self._stored(row) for row in session.scalars(query)]

    def delete(self, file_id: str) -> None:
        """Removes a file.

        Raises:
            NotFound: there is none with that id.
        """
        path = self.get(file_id).path
        with self._database.write() as session:
            row = session.get(FileRow, file_id)
            if row is not None:
                session.delete(row)
        path.unlink(missing_ok=True)

    def _stored(self, row: FileRow) -> StoredFile:
        return StoredFile(row.id, row.filename, row.purpose, row.size, row.sha256, row.created, self._folder / row.id)
