"""Publication: a folder or file appears complete or not at all, whatever happens meanwhile."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import Conflict, NoSpace
from models.files import atomic
from models.files.atomic import atomic_write, claim_folder, publish_folder, sweep, unclaimed_folders


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with publish_folder(tmp_path) as pending:
        (pending.path / "deep").mkdir()
        (pending.path / "deep" / "weights").write_bytes(b"w")
        assert not pending.final.exists()
    assert (pending.final / "deep" / "weights").read_bytes() == b"w"
    assert list(tmp_path.iterdir()) == [pending.final]


def test_after_an_error_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), publish_folder(tmp_path) as pending:
        (pending.path / "half").write_bytes(b"h")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="space"), publish_folder(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_real_full_disk_while_a_file_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoSpace), publish_folder(tmp_path), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(Conflict), publish_folder(tmp_path, "taken") as pending:
        (pending.path / "x").write_bytes(b"x")
    assert list((tmp_path / "taken").iterdir()) == []


@pytest.mark.long
def test_a_kill_leaves_only_what_the_sweep_removes(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from models.files.atomic import publish_folder\n"
        "with publish_folder(Path(sys.argv[1])) as pending:\n"
        "    (pending.path / 'half').write_bytes(b'h'); print('writing', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name[:9] for path in tmp_path.iterdir()] == [".pending-"]
    with publish_folder(tmp_path) as pending:  # an unfinished entry stays
        assert sweep(tmp_path, older_than_s=3600) == 1
        assert list(tmp_path.iterdir()) == [pending.path]
    assert list(tmp_path.iterdir()) == [pending.final]


def test_an_entry_without_a_lock_stays_for_as_long_as_a_write_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without locks, and for an older version's entries, only the age shows that no process writes."""
    monkeypatch.setattr(atomic, "_lock_folder", lambda folder: None)
    with publish_folder(tmp_path) as pending:
        assert sweep(tmp_path, older_than_s=3600) == 0
        assert pending.path.is_dir()
    (tmp_path / ".pending-old").mkdir()
    assert sweep(tmp_path, older_than_s=0) == 1


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    atomic_write(path, b"one", mode=0o600)
    atomic_write(path, b"two", mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_published_folder_is_unclaimed_until_it_is_claimed(tmp_path: Path) -> None:
    with publish_folder(tmp_path) as pending:
        (pending.path / "weights").write_bytes(b"w")
    assert unclaimed_folders(tmp_path, older_than_s=60) == []  # a process may be about to refer to it
    assert unclaimed_folders(tmp_path, older_than_s=0) == [pending.final]
    claim_folder(pending.final)
    assert unclaimed_folders(tmp_path, older_than_s=0) == []
    assert [file.name for file in pending.final.iterdir()] == ["weights"]
