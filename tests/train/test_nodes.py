"""train/nodes.py: two nodes on this machine get the losses of one process, even if one of their processes is killed."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest

from models.errors import Invalid, ParleyError, Unavailable
from models.settings.settings import load_settings
from tests.train.conftest import style_rows
from train.run.node import Node, NodeLost, NodeResult, parse_node
from train.run.progress import Event, Stage, Step
from train.trainers.attempts import worst_failure
from train.trainers.launch_worker import WorkerFailure
from train.trainers.rendezvous import open_rendezvous, require_same


def two_nodes(**values: Any) -> tuple[Node, Node]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first = Node(2, 0, "127.0.0.1", port, **{"timeout_s": 20.0} | values)
    return first, replace(first, rank=1)


def on_both(nodes: tuple[Node, ...], work: Callable[[Node], Any]) -> list[Any]:
    """What each node returned, or its error."""

    def run(node: Node) -> Any:
        try:
            return work(node)
        except ParleyError as error:
            return error

    with ThreadPoolExecutor(len(nodes)) as threads:
        return list(threads.map(run, nodes))


def test_the_flags_describe_a_node() -> None:
    assert parse_node(1, None, None) is None
    assert parse_node(3, 2, "10.0.0.7:1234") == Node(3, 2, "10.0.0.7", 1234)
    assert parse_node(3, 2, "10.0.0.7:1234", 5.0) == Node(3, 2, "10.0.0.7", 1234, 5.0)
    node = parse_node(2, 0, "[fd00::7]")
    assert node is not None
    assert node.address == "[fd00::7]:29400"
    for flags, wrong in (
        ((1, None, "10.0.0.7"), "add --nodes"),
        ((1, 0, None), "add --nodes"),
        ((1, None, None, 5.0), "add --nodes"),
        ((2, 0, None), "also needs --node-rank"),
        ((2, 2, "10.0.0.7"), "use 0 to 1"),
        ((2, 0, "10.0.0.7:port"), "use HOST:PORT"),
    ):
        with pytest.raises(Invalid, match=wrong):
            parse_node(*flags)


@pytest.mark.long
def test_nodes_exchange_values_and_notice_an_end() -> None:
    def work(node: Node) -> Any:
        with open_rendezvous(node) as rendezvous:
            values = rendezvous.exchange("value", node.rank)
            rendezvous.run, rendezvous.run_has_begun = "01RUN", True
            if node.first:
                return values, rendezvous.exchange("more", 0)
            raise Unavailable("No disk.")

    lost, ended = on_both(two_nodes(), work)
    assert isinstance(lost, NodeLost)
    assert "node 1 has ended (No disk)" in str(lost)
    assert "parley train --resume 01RUN --nodes 2 --node-rank 0 --rendezvous 127.0.0.1:" in str(lost)
    assert str(ended) == "No disk."


@pytest.mark.long
def test_nodes_that_do_not_join_are_reported() -> None:
    def enter(node: Node) -> None:
        with open_rendezvous(node):
            pass

    first, second = two_nodes()
    counts = on_both((first, replace(second, count=3)), enter)
    assert all("use the same number on all nodes" in str(error) for error in counts)
    first, second = two_nodes(timeout_s=1.0)
    with pytest.raises(Unavailable, match=r"Node 1 did not join at 127.0.0.1:\d+ within 1 s"):
        enter(first)
    with pytest.raises(Unavailable, match=r"Node 0 did not answer at 127.0.0.1:\d+ within 1 s \(Connection refused\)"):
        enter(second)
    with (
        patch("torch.distributed.TCPStore.add", side_effect=RuntimeError("Connection reset by peer\nand a page")),
        pytest.raises(Unavailable, match=r"a node of a training \(Connection reset by peer\): check --rendezvous"),
    ):
        enter(first)
    with pytest.raises(Unavailable, match="give --rendezvous an address of this machine"):
        enter(replace(first, host="192.0.2.1"))


def test_nodes_that_differ_are_refused() -> None:
    require_same([{"epochs": 2, "the base": "sha256:1"}] * 2)
    with pytest.raises(Invalid, match=r"differ in epochs \(3 there, 2 on node 0\): start the same command"):
        require_same([{"epochs": 2}, {"epochs": 3}])
    with pytest.raises(Invalid, match="differ in the base: start the same command"):
        require_same([{"the base": "sha256:1"}, {"the base": "sha256:2"}])


def test_training_on_nodes_needs_them_all(tmp_path: Path) -> None:
    from train import train

    with pytest.raises(Invalid, match="A training on 2 nodes needs each of them"):
        train(style_rows(4), base="tiny", out=tmp_path / "run", nodes=2)


def test_the_failure_that_explains_the_others() -> None:
    broken = WorkerFailure("the connection broke", "connection")
    killed = WorkerFailure("a process was killed by SIGKILL", "lost")
    memory, error = WorkerFailure("no memory", "memory", 4), WorkerFailure("The base cannot be loaded.")
    assert worst_failure([broken, killed]).message == "Node 1: A process was killed by SIGKILL"
    assert worst_failure([killed, None, memory]).rows == 4
    assert worst_failure([memory, error]).kind == "error"
    assert worst_failure([killed]).message == "A process was killed by SIGKILL"


@pytest.mark.training
def test_two_nodes_learn_what_one_process_learns_though_one_is_killed(tiny_base: Path, tmp_path: Path) -> None:
    """Over gloo, with the base divided between the nodes (FSDP); `test_resume` has two processes with a copy each."""
    from train import Hyperparameters, TrainingRequest, train, train_on_nodes

    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(40)), "utf-8")
    request = TrainingRequest(
        str(data), str(tiny_base), validation=0.2, threads=1, save_steps=2, nodes=2, shard="fsdp",
        hyperparameters=Hyperparameters(epochs=1, rank=4, batch_size=4),
    )  # fmt: skip
    events: dict[int, list[Event]] = {0: [], 1: []}
    killed: list[int] = []
    lock = threading.Lock()

    def listen(rank: int, event: Event) -> None:
        events[rank].append(event)
        if rank and isinstance(event, Step) and event.step == 5:
            with lock:
                if not killed:
                    killed.append(_worker_of_a_node())
                    os.kill(killed[0], signal.SIGKILL)

    def work(node: Node) -> Any:
        settings = load_settings(home=tmp_path / f"home-{node.rank}", device="cpu")
        return train_on_nodes(request, node, settings=settings, progress=lambda event: listen(node.rank, event))

    both, other = on_both(two_nodes(), work)
    alone: list[Event] = []
    single = train(replace(request, nodes=1, shard="none"), out=tmp_path / "alone", progress=alone.append)
    assert killed
    assert not isinstance(both, ParleyError), both
    losses = [[line.loss for line in run if isinstance(line, Step)] for run in (alone, _without_repeats(both))]
    assert len(losses[0]) == 8
    # A sum over two processes is rounded in another order.
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert both.loss_after == pytest.approx(single.loss_after, abs=1e-3)
    assert other == NodeResult(1, both.run_folder.name, pytest.approx(both.loss_after, abs=1e-3))
    stages = [event.message for event in events[0] if isinstance(event, Stage)]
    again = "A process was killed by SIGKILL: resuming from the last checkpoint (restart 1 of 3)"
    assert {f"Node 0: {again}", f"Node 1: {again}"} & {*stages}
    assert "Resuming from step 4" in [event.message for event in events[1] if isinstance(event, Stage)]
    assert "FSDP: 24 weights of the base are divided among 2 processes" in stages
    assert not (tmp_path / "home-1" / "runs").exists()


def _worker_of_a_node() -> int:
    """The process of one of the nodes, whose agents are children of this test."""
    agents = [child for child in psutil.Process().children() if "train.trainers.elastic_agent" in child.cmdline()]
    (worker,) = agents[0].children()
    return worker.pid


def _without_repeats(result: Any) -> list[Step]:
    lines = [json.loads(line) for line in (result.run_folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [Step(**line) for line in lines if "steps" in line]
