"""train/publication/publish.py: complete in the registry, or absent."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.errors import Conflict, Invalid
from models.files.atomic import sweep
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings
from train import Publication, publish, publish_merge

slow = pytest.mark.training


@slow
def test_the_run_published_itself(trained: Any, house: tuple[Settings, Registry]) -> None:
    result, _ = trained
    _, registry = house
    spec = registry.resolve("styled")
    assert (spec.kind, spec.base, spec.parent, spec.lora_rank) == ("adapter", "tiny", "tiny", 8)
    assert spec.job == result.run_folder.name
    assert spec.path == str(result.model_folder)
    names = {file.name for file in Path(spec.path).iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "training-result.json"} <= names


@slow
def test_the_same_run_merged(trained: Any, house: tuple[Settings, Registry]) -> None:
    result, _ = trained
    settings, registry = house
    published = publish(result.run_folder, Publication("styled-merged", "merged"), registry=registry, settings=settings)
    assert published.kind == "merged"
    spec = registry.resolve("styled-merged")
    assert (spec.kind, spec.base, spec.lora_rank) == ("merged", "tiny", None)
    measured = json.loads((Path(str(spec.path)) / "merge.json").read_text())
    assert measured["difference"] <= measured["limit"]
    assert str(settings.home) not in json.dumps(measured)
    again = publish_merge("styled", "styled-merged-too", registry=registry, settings=settings)
    assert (again.folder / "model.safetensors").read_bytes() == (
        Path(str(spec.path)) / "model.safetensors"
    ).read_bytes()
    assert registry.resolve("styled-merged-too").parent == "styled"
    with pytest.raises(Invalid, match="only an adapter"):
        publish_merge("tiny", "x", registry=registry, settings=settings)


@slow
def test_an_adapter_of_too_high_a_rank_is_merged(
    trained: Any, house: tuple[Settings, Registry], tmp_path: Path
) -> None:
    from tests.train.conftest import style_rows
    from train import Hyperparameters, train

    settings, registry = house
    train(
        style_rows(20), base="tiny", name="wide", settings=settings, registry=registry,
        hyperparameters=Hyperparameters(epochs=0.2, rank=96), threads=2,
    )  # fmt: skip
    assert registry.resolve("wide").kind == "merged"


@slow
def test_a_taken_name_is_refused_before_the_training(trained: Any, house: tuple[Settings, Registry]) -> None:
    from train import train

    settings, registry = house
    runs = set(settings.runs_dir.iterdir())
    with pytest.raises(Conflict, match="'styled' is taken"):
        train("/nowhere.jsonl", base="tiny", name="styled", settings=settings, registry=registry)
    assert set(settings.runs_dir.iterdir()) == runs


@slow
def test_a_base_that_nobody_registered_is_registered_with_its_adapter(
    trained: Any, house: tuple[Settings, Registry], tiny_base: Path, tmp_path: Path
) -> None:
    from tests.train.conftest import style_rows
    from train import Hyperparameters, train

    settings, registry = house
    folder = shutil.copytree(tiny_base, tmp_path / "found-here")
    train(
        style_rows(20), base=folder, name="on-folder", settings=settings, registry=registry,
        hyperparameters=Hyperparameters(epochs=0.2, rank=4), threads=2,
    )  # fmt: skip
    assert registry.resolve("on-folder").base == "found-here"
    assert (registry.resolve("found-here").kind, registry.resolve("found-here").path) == ("base", str(folder))


@slow
def test_a_killed_publication_leaves_nothing_half(trained: Any, house: tuple[Settings, Registry]) -> None:
    """SIGKILL while the folder is filled, and between the rename and the row: no name without its weights."""
    result, _ = trained
    settings, registry = house
    before, known = _folders(settings), {spec.id for spec in registry.list()}
    program = """
import os, sys
from pathlib import Path
import train.publication.publish
from models.database import open_database
from models.settings.settings import load_settings

def die(*_):
    os.kill(os.getpid(), 9)

if os.fork() == 0:
    train.publication.publish.shutil.copy2 = die
else:
    assert os.WIFSIGNALED(os.wait()[1])
    train.publication.publish.Registry.register = die
settings = load_settings()
registry = train.publication.publish.Registry(open_database(settings))
model = train.publication.publish.Publication("killed")
train.publication.publish.publish(Path(sys.argv[1]), model, registry=registry, settings=settings)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(result.run_folder)],
        env=child_environment(settings),
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode == -signal.SIGKILL
    assert {spec.id for spec in registry.list()} == known
    (folder,) = _folders(settings) - before  # from the second: complete, and without a name
    assert (folder / "adapter_model.safetensors").is_file()
    assert sweep(settings.models_dir) == 0  # the second had removed what the first left
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    published = publish(result.run_folder, Publication("after"), registry=registry, settings=settings)
    assert os.listdir(str(published.model_folder))
    # The next publication removed the killed one's remains, and no folder that a model refers to.
    assert _folders(settings) == before | {published.model_folder}


def _folders(settings: Settings) -> set[Path]:
    return {folder for folder in settings.models_dir.iterdir() if not folder.name.startswith(".")}
