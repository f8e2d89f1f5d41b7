"""train/run/trackers.py: none unless asked, one line where one is not installed, and the real files where one is."""

import importlib.util
from pathlib import Path

import pytest

from models.errors import Invalid
from train.hyperparameters import Chosen, Facts, Hyperparameters, resolve
from train.run.progress import Stage, Step, Validation
from train.run.trackers import TRACKERS, check_trackers, tracking


@pytest.fixture
def chosen() -> Chosen:
    return resolve(Hyperparameters(), Facts(100, 64, 1_024)).values


def test_none_is_asked_for_and_none_is_opened(tmp_path: Path, chosen: Chosen) -> None:
    check_trackers(())
    with tracking((), tmp_path, "run", chosen) as tell:
        tell(Stage("Loading"))
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


def test_tensorboard_gets_every_number(tmp_path: Path, chosen: Chosen) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; it is the user's choice")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tracking(["tensorboard"], tmp_path, "run", chosen) as tell:
        tell(Stage("Loading"))
        tell(Validation(0, 3.0, 0.1))
        for step in (1, 2):
            tell(Step(step, 2, 0.5 * step, 2.0 / step, 1e-3, 0.5, 100, 50.0, 1.0, 0.0, accuracy=0.25 * step))
        tell(Validation(2, 1.5, 0.6))
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(one.step, one.value) for one in read.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
    assert [(one.step, one.value) for one in read.Scalars("validation/loss")] == [(0, 3.0), (2, 1.5)]
    assert "train/margin" not in read.Tags()["scalars"]
