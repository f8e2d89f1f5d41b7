"""train/ray_job.py: a training on two nodes of a Ray cluster, which share the home; one of them is killed."""

import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from bench.cluster.nodes import Nodes
from models.database import open_database, upgrade
from models.errors import ParleyError
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from tests.tiny_model import make_base
from tests.train.conftest import style_rows
from train.hyperparameters import Hyperparameters
from train.ray_job import RayJob, train_on_ray
from train.request import TrainingRequest
from train.run.progress import Event, Stage, Step

Home = tuple[Settings, Registry]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("trained")
    settings = load_settings(home=folder / "home", device="cpu")
    upgrade(settings)
    registry = Registry(open_database(settings))
    registry.register(ModelSpec(id="tiny", kind="base", path=str(make_base(folder / "tiny"))))
    rows = "".join(json.dumps(row) + "\n" for row in style_rows(24))
    (settings.home / "data.jsonl").write_text(rows, "utf-8")
    return settings, registry


def run(home: Home, name: str, epochs: int, listen: Callable[[Event], Any]) -> Any:
    request = TrainingRequest(
        str(home[0].home / "data.jsonl"), "tiny", name, nodes=2, threads=1, save_steps=5,
        hyperparameters=Hyperparameters(epochs=epochs, rank=4, batch_size=4),
    )  # fmt: skip
    return train_on_ray(RayJob("auto", request, 2, 1), home[0], listen)


def test_two_nodes_of_a_cluster_train_and_publish(nodes: Nodes, home: Home) -> None:
    events: list[Event] = []
    result = run(home, "styled", 1, events.append)
    assert [event.step for event in events if isinstance(event, Step)] == list(range(1, result.steps + 1))
    assert result.model == "styled"
    assert home[1].resolve("styled").base == "tiny"
    stages = [event.message for event in events if isinstance(event, Stage)]
    assert "Waiting for 2 machines of the Ray cluster with a free CPU each" in stages
    assert "All 2 nodes have joined" in stages
    assert os.environ["RAY_ADDRESS"] == nodes.address


def test_a_killed_node_ends_the_training_with_the_command_to_continue(nodes: Nodes, home: Home) -> None:
    killed = threading.Event()
    trained_on: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Step) and event.step > 6 and not killed.is_set():
            killed.set()
            trained_on.extend(processes())
            nodes.kill(nodes.nodes[-1])

    with pytest.raises(ParleyError) as caught:
        run(home, "unfinished", 1000, kill)
    nodes.add()
    assert killed.is_set()
    assert len(trained_on) == 4  # on each node an agent and the process that it forked
    # Node 0's error contains the command, unless node 0 itself was killed.
    assert "--on auto --nodes 2` continues it" in str(caught.value) or "has ended" in str(caught.value)
    deadline = time.monotonic() + 30
    while (left := {*trained_on} & {*processes()}) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not left


def processes() -> list[int]:
    """The pids of the agents of trainings on this machine, and of their processes."""
    running = psutil.process_iter(["pid", "cmdline"])
    return [process.pid for process in running if "train.trainers.elastic_agent" in (process.info["cmdline"] or ())]
