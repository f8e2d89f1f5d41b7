"""A restore drill: a home is backed up while votes come in, and restored elsewhere; damaged files are refused."""

import os
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.votes.imports.options import ImportOptions
from evals.votes.vote_import import import_votes
from evals.votes.votes import count_votes
from models.backup.archive import HashingStream
from models.backup.create import create_backup
from models.backup.restore import restore_backup
from models.database import Database, open_database, upgrade
from models.errors import Conflict, Invalid, NotFound, ParleyError, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from tests.conftest import _new_postgres
from tests.tiny_model import make_base

Place = Callable[[str], Settings]
HEADER = "model_a,model_b,winner,prompt,voter\n"

pytestmark = pytest.mark.long


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Makes the settings of an empty home, with an empty database of its own, on SQLite and on PostgreSQL."""

    def make(name: str) -> Settings:
        if request.param == "sqlite":
            return load_settings(home=tmp_path / name)
        url = _new_postgres(request.getfixturevalue("postgres_server"))
        return load_settings(home=tmp_path / name, database_url=url)

    return make


def fill(settings: Settings, outside: Path) -> Database:
    """A home with a model inside it and one outside, a run, an uploaded file, secrets, logs and votes."""
    upgrade(settings)
    home, database = settings.home, open_database(settings)
    make_base(home / "models" / "inside")
    shutil.copytree(home / "models" / "inside", outside)
    registry = Registry(database)
    registry.register(ModelSpec(id="inside", kind="base", path=str(home / "models" / "inside")))
    registry.register(ModelSpec(id="outside", kind="base", path=str(outside)))
    run = home / "runs" / "run-1"
    (run / "checkpoints" / "step-1").mkdir(parents=True)
    (run / "config.json").write_text(f'{{"base": "{home}/models/inside", "data": "{home}-other/x"}}')
    (run / "checkpoints" / "step-1" / "model.safetensors").write_bytes(b"weights")
    for name in ("files/file-1", "logs/page.log", "up.json", "engine.key"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(name)
    (home / "page-secret").write_text("secret")
    (home / "page-secret").chmod(0o600)
    import_rows(database, home, "first", 3)
    return database


def import_rows(database: Database, folder: Path, name: str, count: int) -> None:
    path = folder.parent / f"{name}.csv"
    path.write_text(HEADER + "".join(f"a,b,left,{name} {i}?,ann\n" for i in range(count)))
    import_votes(database, path, ImportOptions())


@pytest.mark.parametrize("weights", [False, True])
def test_a_restored_home_works_elsewhere(place: Place, tmp_path: Path, *, weights: bool) -> None:
    settings, outside = place("home"), tmp_path / "outside"
    database = fill(settings, outside)
    file = tmp_path / "backup.tar"
    stop = threading.Event()

    def write() -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            import_rows(database, settings.home, f"more-{number}", 2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        create_backup(settings, file, weights=weights)
    finally:
        stop.set()
        writer.join()
    database.dispose()
    assert file.stat().st_mode & 0o077 == 0
    shutil.rmtree(settings.home)

    there = place("elsewhere")
    done = restore_backup(there, file)
    assert done.missing == (() if weights else ("inside",))
    assert done.replaced is None
    restored = open_database(there)
    paths = {spec.id: spec.path for spec in Registry(restored).list()}
    assert paths == {"inside": str(there.home / "models" / "inside"), "outside": str(outside)}
    config = (there.home / "runs" / "run-1" / "config.json").read_text()
    assert config == f'{{"base": "{there.home}/models/inside", "data": "{settings.home}-other/x"}}'
    assert (there.home / "runs/run-1/checkpoints/step-1/model.safetensors").exists() == weights
    assert (there.home / "models/inside/config.json").exists() == weights
    assert (there.home / "files/file-1").read_text() == "files/file-1"
    assert (there.home / "page-secret").stat().st_mode & 0o777 == 0o600
    assert not any((there.home / name).exists() for name in ("logs", "up.json", "engine.key"))
    before = count_votes(restored)
    assert before >= 3
    assert (before - 3) % 2 == 0  # each transaction whole or not at all
    import_rows(restored, there.home, "after", 2)
    assert count_votes(restored) == before + 2
    restored.dispose()


def test_a_changed_byte_is_refused(place: Place, tmp_path: Path) -> None:
    settings = place("home")
    fill(settings, tmp_path / "outside").dispose()
    file = tmp_path / "backup.tar"
    create_backup(settings, file)
    whole, there = file.read_bytes(), place("elsewhere")
    for place_of_byte in (0, 700, len(whole) // 2, len(whole) - 200, len(whole) - 5):
        damaged = bytearray(whole)
        damaged[place_of_byte] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(Invalid, match="checksum is wrong") as refused:
            restore_backup(there, file)
        assert "\n" not in str(refused.value)
    file.write_bytes(whole[:-300])
    with pytest.raises(Invalid, match="not a complete backup"):
        restore_backup(there, file)
    assert not there.home.exists()
    file.write_bytes(whole)
    assert restore_backup(there, file).files > 0


def test_nothing_is_overwritten_without_replace(place: Place, tmp_path: Path) -> None:
    settings = place("home")
    database = fill(settings, tmp_path / "outside")
    file = tmp_path / "backup.tar"
    create_backup(settings, file)
    import_rows(database, settings.home, "later", 5)
    (settings.home / "parley.toml").write_text("port = 8001\n")
    with pytest.raises(Conflict, match=r"not empty.*--replace"):
        restore_backup(settings, file)
    with pytest.raises(Conflict, match="exists already"):
        create_backup(settings, file)
    with pytest.raises(Invalid, match="inside the home"):
        create_backup(settings, settings.home / "backup.tar")
    assert count_votes(database) == 8
    database.dispose()
    done = restore_backup(settings, file, replace=True)
    assert count_votes(open_database(settings)) == 3
    assert (settings.home / "models" / "inside" / "config.json").exists()  # the backup has no weights
    assert (settings.home / "parley.toml").exists()
    assert done.replaced is not None
    assert (done.replaced / "files" / "file-1").exists()
    assert (done.replaced / "parley.db").exists() == (settings.database_url is None)


def test_an_invalid_backup_is_refused_in_one_line(place: Place, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(NotFound):
        restore_backup(settings, tmp_path / "none.tar")
    (tmp_path / "note.txt").write_text("no backup")
    with pytest.raises(Invalid, match="not a complete backup"):
        restore_backup(settings, tmp_path / "note.txt")
    here = place("home")
    if here.database_url is None:
        with pytest.raises(Unavailable, match="nothing to back up"):
            create_backup(here, tmp_path / "b.tar")
        return
    upgrade(here)
    here.home.mkdir()
    create_backup(here, tmp_path / "b.tar")
    with pytest.raises(Invalid, match="set PARLEY_DATABASE_URL"):
        restore_backup(settings, tmp_path / "b.tar")


def test_a_running_home_is_not_replaced(place: Place, tmp_path: Path) -> None:
    import fcntl

    settings = place("home")
    fill(settings, tmp_path / "outside").dispose()
    create_backup(settings, tmp_path / "b.tar")
    with (settings.home / "up.lock").open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ParleyError, match="Parley is running from"):
            restore_backup(settings, tmp_path / "b.tar", replace=True)
    assert os.listdir(settings.home / "models") == ["inside"]


def test_sockets_pipes_and_links_do_not_stop_a_backup(tmp_path: Path, settings: Settings) -> None:
    upgrade(settings)
    files = settings.home / "files"
    files.mkdir()
    (files / "-").write_text("a file whose name is a dash")
    (files / "link").symlink_to("/etc")
    (files / "dangling").symlink_to("nowhere")
    os.mkfifo(files / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(files / "socket"))  # an address has 107 bytes at most
        made = create_backup(settings, tmp_path / "backup.tar")
    there = load_settings(home=tmp_path / "there")
    restored = restore_backup(there, tmp_path / "backup.tar")
    assert made.files == restored.files == 3
    assert sorted(file.name for file in (there.home / "files").iterdir()) == ["-", "dangling", "link"]


def test_a_sealed_file_that_is_no_archive_is_one_line(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "backup.tar"
    with file.open("wb") as stream:
        sealed = HashingStream(stream)
        sealed.write(b"no archive" * 1000)
        sealed.seal()
    with pytest.raises(Invalid, match="not a tar archive"):
        restore_backup(settings, file)


def test_a_restoration_that_was_killed_or_failed_can_be_repeated(tmp_path: Path, settings: Settings) -> None:
    upgrade(settings)
    create_backup(settings, tmp_path / "backup.tar")
    there = load_settings(home=tmp_path / "there")
    (there.home / ".restoring-01ABC" / "home").mkdir(parents=True)
    (there.home / "up.lock").touch()
    assert restore_backup(there, tmp_path / "backup.tar").replaced is None
    assert not list(there.home.glob(".restoring-*"))
    with pytest.raises(Conflict, match="not empty"):
        restore_backup(there, tmp_path / "backup.tar")
