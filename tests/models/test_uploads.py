"""Uploads: parts in any order become one file, once; an upload that has ended takes no parts and leaves no bytes."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound, ParleyError
from models.files.stored_files import Files
from models.files.uploads import Upload, Uploads
from models.settings.settings import Settings
from models.tables import UploadPartRow, UploadRow


def part(uploads: Uploads, upload: Upload, content: bytes) -> str:
    with uploads.incoming_part(upload.id) as incoming:
        incoming.write(content)
        return uploads.save_part(upload.id, incoming).id


def new(uploads: Uploads, size: int) -> Upload:
    return uploads.create(filename="big.jsonl", purpose="fine-tune", size=size, mime_type="text/jsonl")


def left_over(settings: Settings) -> list[str]:
    return [path.name for path in (settings.files_dir / "uploads").glob("*")]


def test_parts_become_one_file_in_the_order_that_is_named(settings: Settings, any_database: Database) -> None:
    uploads = Uploads(settings, any_database)
    upload = new(uploads, 6)
    assert (upload.status, upload.file, uploads.get(upload.id)) == ("pending", None, upload)
    second, spare, first = (part(uploads, upload, content) for content in (b"def", b"unused", b"abc"))
    done = uploads.complete(upload.id, [first, second], hashlib.md5(b"abcdef").hexdigest())
    assert (done.status, done.file is not None) == ("completed", True)
    assert done.file
    assert done.file.path.read_bytes() == b"abcdef"
    assert done.file.sha256 == hashlib.sha256(b"abcdef").hexdigest()
    assert (done.file.filename, done.file.purpose) == ("big.jsonl", "fine-tune")
    assert uploads.complete(upload.id, [first, second]) == done, "the SDK repeats what it got no answer to"
    assert left_over(settings) == []
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(UploadPartRow)) == 0
    for again in (lambda: uploads.complete(upload.id, [spare]), lambda: uploads.cancel(upload.id)):
        with pytest.raises(Invalid, match="completed"):
            again()


def test_parts_of_a_packed_file_are_refused_as_training_data(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    upload = new(uploads, 4)
    first, second = part(uploads, upload, b"\x1f"), part(uploads, upload, b"\x8b\x08\x00")
    with pytest.raises(Invalid, match=r"big.jsonl is not training data: it is a gzip file"):
        uploads.complete(upload.id, [first, second])
    assert uploads.get(upload.id).file is None
    assert Files(settings, database).list() == []


def test_wrong_parts_are_refused_and_the_upload_stays_pending(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    upload, other = new(uploads, 4), new(uploads, 2)
    first, second = part(uploads, upload, b"ab"), part(uploads, upload, b"cd")
    strange = part(uploads, other, b"xy")
    for wrong, word in (
        ([first], "announced"),
        ([first, first], "twice"),
        ([first, strange], "no part"),
        ([first, "x"], "no"),
    ):
        with pytest.raises(Invalid, match=word) as refused:
            uploads.complete(upload.id, wrong)
        assert refused.value.param == "part_ids"
    with pytest.raises(Invalid, match="MD5"):
        uploads.complete(upload.id, [first, second], "0" * 32)
    with pytest.raises(Invalid), uploads.incoming_part(upload.id) as incoming:
        uploads.save_part(upload.id, incoming)
    assert Files(settings, database).list() == []
    assert uploads.complete(upload.id, [first, second]).status == "completed"


def test_a_cancelled_or_expired_upload_accepts_nothing(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    cancelled, old = new(uploads, 2), new(uploads, 2)
    parts = {upload.id: part(uploads, upload, b"ab") for upload in (cancelled, old)}
    assert uploads.cancel(cancelled.id).status == uploads.cancel(cancelled.id).status == "cancelled"
    assert left_over(settings) == [old.id]
    with database.write() as session:
        session.execute(update(UploadRow).where(UploadRow.id == old.id).values(expires=utcnow()))
    assert uploads.get(old.id).status == "expired"
    for upload in (cancelled, old):
        with pytest.raises(Invalid):
            part(uploads, upload, b"ab")
        with pytest.raises(Invalid):
            uploads.complete(upload.id, [parts[upload.id]])
    assert uploads.sweep() == 1
    assert left_over(settings) == []
    assert uploads.get(old.id).status == "expired"


def test_an_upload_cancelled_during_a_part_stores_nothing(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    upload = new(uploads, 2)
    with pytest.raises(Invalid, match="cancelled"), uploads.incoming_part(upload.id) as incoming:
        incoming.write(b"ab")
        uploads.cancel(upload.id)
        uploads.save_part(upload.id, incoming)
    uploads.sweep()
    assert left_over(settings) == []


def test_concurrent_completions_make_one_file(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    upload = new(uploads, 200_000)
    parts = [part(uploads, upload, bytes([number]) * 50_000) for number in range(4)]

    def complete(_: int) -> str | None:
        try:
            done = uploads.complete(upload.id, parts)
        except Conflict:
            return None  # the SDK retries
        return done.file.id if done.file else None

    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(complete, range(6)))
    stored = Files(settings, database).list()
    assert made - {None} == {stored[0].id}
    assert len(stored) == 1
    assert [path.name for path in settings.files_dir.glob("file-*")] == [stored[0].id]


def test_invalid_uploads_are_refused(settings: Settings, database: Database) -> None:
    uploads = Uploads(settings, database)
    for size in (0, -1, 2**50):
        with pytest.raises(Invalid, match="bytes"):
            new(uploads, size)
    for nobody in ("upload_x", "", "../x", "upload_\x00"):
        with pytest.raises(NotFound):
            uploads.get(nobody)
    with pytest.raises(ParleyError):
        uploads.incoming_part("upload_x")
