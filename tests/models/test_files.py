"""models/files/stored_files.py: files are stored completely or not at all, listed without gaps, and expire."""

import errno
import hashlib
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NoSpace, NotFound, TooLarge, Unavailable
from models.files.stored_files import Files
from models.files.uploads import sweep_uploaded
from models.settings.settings import Settings
from models.tables import FileRow


def age(database: Database, file_id: str, **values: object) -> None:
    with database.write() as session:
        session.execute(update(FileRow).where(FileRow.id == file_id).values(**values))


def test_files_are_stored_listed_and_deleted(settings: Settings, any_database: Database) -> None:
    files = Files(settings, any_database)
    stored = files.store("../../etc/train.jsonl", b"{}\n", "fine-tune")
    assert (stored.filename, stored.size) == ("train.jsonl", 3)
    assert stored.path.read_bytes() == b"{}\n"
    while new_ulid()[:10] <= stored.id[5:15]:
        pass  # ids sort by their millisecond
    newer = files.store("b.jsonl", b"x", "evals")
    assert [file.id for file in files.list()] == [newer.id, stored.id]
    assert [file.id for file in files.list("fine-tune")] == [stored.id]
    assert files.get(stored.id) == stored
    files.delete(stored.id)
    assert not stored.path.exists()
    for nobody in (stored.id, "file-\x00", "../parley.db", "", "file-" + "x" * 300):
        with pytest.raises(NotFound):
            files.get(nobody)
    with pytest.raises(Invalid):
        files.store("empty", b"", "evals")
    assert [path.name for path in files.folder.iterdir()] == [newer.id]


@pytest.mark.long
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 12), limit=st.integers(1, 5), order=st.sampled_from(["asc", "desc"]), data=st.data())
def test_pages_contain_every_file_once(settings: Settings, database: Database, count, limit, order, data) -> None:
    """Also if all files have the same time, and if files are deleted between two pages."""
    files, now = Files(settings, database), utcnow()
    made = [f"file-{new_ulid()}" for _ in range(count)]
    with database.write() as session:  # rows alone: pages never read the files
        session.execute(delete(FileRow))
        session.add_all(
            FileRow(id=file_id, filename="a", purpose="evals", size=1, sha256="0" * 64, created=now) for file_id in made
        )
    listed: list[str] = []
    after, gone = None, set()
    while True:
        page = files.page(purpose="evals", after=after, limit=limit, order=order)
        assert len(page.files) <= limit
        listed += [file.id for file in page.files]
        if not page.has_more:
            break
        after = listed[-1]
        for file_id in data.draw(st.sets(st.sampled_from(listed))) - gone:
            files.delete(file_id)
            gone.add(file_id)
    assert listed == sorted(made, reverse=order == "desc")


def test_invalid_pages_are_refused(settings: Settings, database: Database) -> None:
    files = Files(settings, database)
    with pytest.raises(Invalid, match="after"):
        files.page(after="nonsense")
    with pytest.raises(Invalid, match="order"):
        files.page(order="sideways")


def test_an_expired_file_is_hidden_and_later_swept(settings: Settings, database: Database) -> None:
    files = Files(settings, database)
    stays = files.store("a", b"x", "batch", expires_after=timedelta(hours=1))
    goes = files.store("b", b"x", "batch", expires_after=timedelta(hours=1))
    assert files.get(goes.id).expires == goes.expires == goes.created + timedelta(hours=1)
    age(database, goes.id, expires=utcnow())
    with pytest.raises(NotFound):
        files.get(goes.id)
    assert [file.id for file in files.list()] == [stays.id]
    assert goes.path.exists()
    assert sweep_uploaded(settings, database) == 1
    assert not goes.path.exists()
    assert stays.path.exists()


def test_leftovers_of_a_kill_are_swept_after_a_day(settings: Settings, database: Database) -> None:
    files = Files(settings, database)
    known = files.store("a", b"x", "batch")
    left = [files.folder / name for name in ("file-without-a-row", ".pending-half")]
    for path in left:
        path.write_bytes(b"x")
    assert files.sweep() == 0
    for path in [*left, known.path]:
        os.utime(path, (0, 0))
    assert files.sweep() == 2
    assert list(files.folder.iterdir()) == [known.path]


@pytest.mark.long
def test_after_a_kill_every_listed_file_is_whole(settings: Settings, database: Database) -> None:
    code = (
        "import sys; from models.database import open_database; from models.files.stored_files import Files\n"
        "from models.settings.settings import load_settings\n"
        "settings = load_settings(home=sys.argv[1]); files = Files(settings, open_database(settings))\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1; files.store('a', str(number).encode() * 300_000, 'batch')\n"
        "    print('stored', flush=True)"
    )
    files = Files(settings, database)
    for moment_s in (0.0, 0.013, 0.031):
        process = subprocess.Popen([sys.executable, "-c", code, str(settings.home)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"stored\n"
        time.sleep(moment_s)
        process.kill()
        process.communicate()
    known = files.list()
    assert len(known) >= 3
    for file in known:
        assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
    for path in files.folder.iterdir():
        os.utime(path, (0, 0))
    files.sweep()
    assert {path.name for path in files.folder.iterdir()} == {file.id for file in known}


def test_a_file_over_the_limit_leaves_nothing(settings: Settings, database: Database) -> None:
    files = Files(settings.model_copy(update={"max_upload_mib": 0.001}), database)
    with pytest.raises(TooLarge):
        files.store("a", b"x" * 2000, "batch")
    assert list(files.folder.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(settings, database)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="free some space"):
        files.store("a", b"x" * 2000, "batch")
    assert list(files.folder.iterdir()) == []


def test_a_file_without_its_row_leaves_nothing(settings: Settings, database: Database) -> None:
    files = Files(settings, database)
    with database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE files")
    with pytest.raises(Unavailable):
        files.store("a", b"x", "batch")
    assert list(files.folder.iterdir()) == []
