"""train/ray_job.py: a training on two nodes of a Ray cluster, which share the home."""

import json
import os
from pathlib import Path

from bench.cluster.nodes import Nodes
from models.database import open_database, upgrade
from models.registry.registry import Registry
from models.settings.settings import load_settings
from models.spec import ModelSpec
from tests.tiny_model import make_base
from tests.train.conftest import style_rows
from train.hyperparameters import Hyperparameters
from train.ray_job import RayJob, train_on_ray
from train.request import TrainingRequest
from train.run.progress import Event, Stage, Step


def test_two_nodes_of_a_cluster_train_and_publish(nodes: Nodes, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", device="cpu")
    upgrade(settings)
    registry = Registry(open_database(settings))
    registry.register(ModelSpec(id="tiny", kind="base", path=str(make_base(tmp_path / "tiny"))))
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(24)), "utf-8")
    request = TrainingRequest(
        str(data), "tiny", "styled", nodes=2, threads=1, hyperparameters=Hyperparameters(epochs=1, rank=4, batch_size=4)
    )
    events: list[Event] = []
    result = train_on_ray(RayJob("auto", request, 2, 1), settings, events.append)
    assert [event.step for event in events if isinstance(event, Step)] == list(range(1, result.steps + 1))
    assert result.model == "styled"
    assert registry.resolve("styled").base == "tiny"
    told = [event.message for event in events if isinstance(event, Stage)]
    assert "Waiting for 2 machines of the Ray cluster with a free CPU each" in told
    assert "All 2 nodes are here" in told
    assert os.environ["RAY_ADDRESS"] == nodes.address
