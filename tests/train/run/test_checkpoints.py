"""train/run/checkpoints.py: a checkpoint counts only if it is complete, and pruning keeps the ones that are needed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import NoSpace
from train.run.checkpoints import Damaged, Saved, folder_of, listed, newest, prune, read, thin, verify, write


def save(run: Path, step: int, *, loss: float | None = None, ends_epoch: bool = False, last: bool = False) -> Saved:
    """A checkpoint with a state and an adapter."""
    saved = Saved(folder_of(run, step), step, step / 10, loss, ends_epoch, last, rows_at_once=4)
    return write(saved, fill)


def fill(folder: Path) -> None:
    for name in ("state/optimizer.pt", "adapter/adapter_model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(name.encode() * 100)


def steps(run: Path) -> list[int]:
    return [saved.step for saved in listed(run)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = save(tmp_path, 12, loss=0.5, ends_epoch=True)
    assert verify(written.folder) == written == read(written.folder)
    assert set(written.files or ()) == {"state/optimizer.pt", "adapter/adapter_model.safetensors"}
    assert newest(tmp_path).saved == written
    assert sorted(path.name for path in written.folder.iterdir()) == ["adapter", "manifest.json", "state"]


def no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def torn_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])


def flipped_digit(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"rows_at_once": 4', '"rows_at_once": 5'))


def flipped_bit(folder: Path) -> None:
    path = folder / "state" / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def missing_file(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").unlink()


def cut_file(folder: Path) -> None:
    path = folder / "adapter" / "adapter_model.safetensors"
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [no_manifest, torn_manifest, flipped_digit, flipped_bit, missing_file, cut_file])
def test_a_damaged_checkpoint_is_left_aside_for_the_one_before_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    save(tmp_path, 3)
    damage(save(tmp_path, 12).folder)  # the highest number, from which transformers alone would resume
    with pytest.raises(Damaged, match="step-12"):
        verify(folder_of(tmp_path, 12))
    checkpoint = newest(tmp_path)
    assert checkpoint.saved
    assert checkpoint.saved.step == 3
    assert [("step-12" in reason, "\n" in reason) for reason in checkpoint.damaged] == [(True, False)]


def test_a_resumed_run_replaces_the_damaged_one_when_it_comes_there_again(tmp_path: Path) -> None:
    flipped_bit(save(tmp_path, 3).folder)
    save(tmp_path, 3, loss=0.25)
    assert newest(tmp_path).saved == verify(folder_of(tmp_path, 3))


WRITER = """
import sys, time
from pathlib import Path
from train.run.checkpoints import Saved, folder_of, write

run, stop_after = Path(sys.argv[1]), int(sys.argv[2])

def fill(folder):
    for number in range(4):
        if number == stop_after:
            time.sleep(60)
        (folder / str(number)).write_bytes(b"x" * 1000)

write(Saved(folder_of(run, 7), 7, 0.7), fill)
"""


@pytest.mark.long
@pytest.mark.parametrize("files", [0, 2])
def test_a_kill_between_two_files_leaves_the_checkpoint_before_it(tmp_path: Path, files: int) -> None:
    save(tmp_path, 3)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(files)])
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "checkpoints").glob(".pending-*/*"))) < files or not pending(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert pending(tmp_path)
    checkpoint = newest(tmp_path)
    assert checkpoint.saved
    assert (checkpoint.saved.step, checkpoint.damaged) == (3, ())
    assert not pending(tmp_path)  # swept away


def pending(run: Path) -> list[Path]:
    return list((run / "checkpoints").glob(".pending-*"))


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert newest(tmp_path).saved is None
    assert listed(tmp_path) == ()


def test_the_last_three_stay_whole_and_of_three_epochs_and_the_best_what_can_be_published(tmp_path: Path) -> None:
    losses = {10: 0.9, 20: 0.3, 30: 0.4, 40: 0.5, 50: 0.6}
    for step in range(2, 58, 2):
        save(tmp_path, step, loss=losses.get(step), ends_epoch=step % 10 == 0)
        prune(tmp_path)
    assert steps(tmp_path) == [20, 30, 40, 50, 52, 54, 56]  # 20 is the best
    assert [checkpoint.step for checkpoint in listed(tmp_path) if checkpoint.resumable] == [52, 54, 56]
    assert sorted(path.parent.name for path in tmp_path.glob("checkpoints/*/state")) == [
        "step-52",
        "step-54",
        "step-56",
    ]
    assert all(verify(checkpoint.folder) for checkpoint in listed(tmp_path))


def test_what_a_kill_left_of_a_removal_is_removed(tmp_path: Path) -> None:
    no_manifest(save(tmp_path, 2).folder)
    for step in (4, 6):
        save(tmp_path, step)
    prune(tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-4", "step-6"]


def test_of_a_run_that_has_ended_stays_what_can_be_published(tmp_path: Path) -> None:
    for step, loss in ((10, 0.5), (14, None), (20, None)):
        save(tmp_path, step, loss=loss, ends_epoch=step != 14, last=step == 20)
    thin(tmp_path, loss=0.25)
    assert [(checkpoint.step, checkpoint.loss, checkpoint.resumable) for checkpoint in listed(tmp_path)] == [
        (10, 0.5, False),
        (20, 0.25, False),
    ]
    assert all(verify(checkpoint.folder) for checkpoint in listed(tmp_path))
    assert not list(tmp_path.glob("checkpoints/*/state"))
    assert newest(tmp_path).saved is None  # no checkpoint to resume from
    before = listed(tmp_path)
    thin(tmp_path, loss=0.25)
    assert listed(tmp_path) == before


FULL = """
import resource, sys
from pathlib import Path
from models.errors import NoSpace
from train.run.checkpoints import Saved, folder_of, write

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write(Saved(folder_of(Path(sys.argv[1]), 7), 7, 0.7), lambda folder: (folder / "big").write_bytes(b"x" * 20_000))
except NoSpace as error:
    print(error)
"""


@pytest.mark.long
def test_a_write_that_the_system_refuses_is_one_line_and_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    # A file size limit is a real fault that needs no rights; test_failures.py has a full disk.
    save(tmp_path, 3)
    finished = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert finished.stdout.startswith("No space left for the checkpoint of step 7")
    assert finished.stdout.count("\n") == 1
    assert steps(tmp_path) == [3]
    assert not pending(tmp_path)
    assert newest(tmp_path).saved


def test_a_fault_of_another_kind_is_not_called_a_full_disk(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else") as caught:
        write(Saved(folder_of(tmp_path, 7), 7, 0.7), broken)
    assert not isinstance(caught.value, NoSpace)


def test_the_manifest_says_nothing_of_this_machine(tmp_path: Path) -> None:
    manifest = json.loads((save(tmp_path, 3).folder / "manifest.json").read_text("utf-8"))
    assert str(tmp_path) not in json.dumps(manifest)
    assert manifest["files"]["state/optimizer.pt"][0] == len(b"state/optimizer.pt") * 100
