"""train/run/trackers.py: none by default, a one-line error where one is not installed, and real files where it is."""

import importlib.util
import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from train.hyperparameters import Chosen, Facts, Hyperparameters, resolve
from train.run.progress import Stage, Step, Validation
from train.run.trackers import TRACKERS, check_trackers, tracking


@pytest.fixture
def chosen() -> Chosen:
    return resolve(Hyperparameters(), Facts(100, 64, 1_024)).values


def test_without_trackers_none_is_opened(tmp_path: Path, chosen: Chosen) -> None:
    check_trackers(())
    with tracking((), tmp_path, "run", chosen) as track:
        track(Stage("Loading"))
    assert not list(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused_with_those_there_are() -> None:
    with pytest.raises(Invalid, match="wandb, tensorboard, trackio"):
        check_trackers(["paper"])


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_one_that_is_not_installed_names_the_command(name: str) -> None:
    if importlib.util.find_spec(TRACKERS[name]):
        pytest.skip(f"{name} is installed here")
    with pytest.raises(Invalid, match=f"`pip install {name}`"):
        check_trackers([name])


def track_run(name: str, folder: Path, chosen: Chosen) -> None:
    with tracking([name], folder, "run", chosen) as track:
        track(Stage("Loading"))
        track(Validation(0, 3.0, 0.1))
        for step in (1, 2):
            track(Step(step, 2, 0.5 * step, 2.0 / step, 1e-3, 0.5, 100, 50.0, 1.0, 0.0, accuracy=0.25 * step))
        track(Validation(2, 1.5, 0.6))


def logged(rows: Iterable[Mapping[str, Any]], name: str, step: str) -> list[tuple[int, float]]:
    return [(int(row[step]), float(row[name])) for row in rows if name in row]


def test_tensorboard_gets_every_number(tmp_path: Path, chosen: Chosen) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; it is the user's choice")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track_run("tensorboard", tmp_path, chosen)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(point.step, point.value) for point in read.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
    assert [(point.step, point.value) for point in read.Scalars("validation/loss")] == [(0, 3.0), (2, 1.5)]
    assert "train/margin" not in read.Tags()["scalars"]


@pytest.mark.long
def test_trackio_gets_every_number_and_the_configuration(
    tmp_path: Path, chosen: Chosen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio is not installed; it is the user's choice")
    storage: Any = import_module("trackio.sqlite_storage").SQLiteStorage
    track_run("trackio", tmp_path, chosen)
    rows = storage.get_logs("parley", "run")
    assert logged(rows, "train/loss", "step") == [(1, 2.0), (2, 1.0)]
    assert logged(rows, "validation/loss", "step") == [(0, 3.0), (2, 1.5)]
    assert storage.get_run_config("parley", "run")["learning_rate"] == chosen.learning_rate
    assert capsys.readouterr().out == ""  # --json prints one object and nothing else


@pytest.mark.long
def test_wandb_gets_every_number_and_the_configuration(
    tmp_path: Path, chosen: Chosen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    pytest.importorskip("wandb", reason="wandb is not installed; it is the user's choice")
    records: Any = import_module("wandb.proto.wandb_internal_pb2")
    track_run("wandb", tmp_path, chosen)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content, rows, configured = path.read_bytes(), [], {}
    place = 7  # a log in LevelDB's format, in one block: after its header, records with checksum, length and kind
    while place < len(content):
        size = int.from_bytes(content[place + 4 : place + 6], "little")
        record = records.Record.FromString(content[place + 7 : place + 7 + size])
        place += 7 + size
        configured |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            rows.append(items | {"step": record.history.step.num})
    assert logged(rows, "train/loss", "step") == [(1, 2.0), (2, 1.0)]
    assert logged(rows, "validation/loss", "step") == [(0, 3.0), (2, 1.5)]
    assert configured["learning_rate"] == chosen.learning_rate
    assert capsys.readouterr().out == ""
