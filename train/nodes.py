"""Training on several machines: each runs the same command; node 0 writes the run and publishes its model."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.database import new_ulid
from models.errors import Invalid, ParleyError
from models.registry.registry import Registry
from models.settings.hub import use_hub_token
from models.settings.settings import Settings
from train.request import TrainingRequest
from train.run.folder import CONFIG, LOG, TrainingResult, find_run, load_finished, read_json
from train.run.node import Node, NodeResult
from train.run.progress import Progress, Stage, silent
from train.trainers.bases import find_base, with_options
from train.trainers.rendezvous import Rendezvous, open_rendezvous
from train.trainers.runtime import find_device
from train.training import TrainingRun, train


def train_on_nodes(
    request: TrainingRequest | str | Path,
    node: Node,
    *,
    settings: Settings,
    registry: Registry | None = None,
    progress: Progress = silent,
) -> TrainingResult | NodeResult:
    """Trains on `node.count` machines; each of them calls this.

    Args:
        request: the training, the same on all nodes; or the id or folder of a run to continue. Its data and base must
            have the same path or id on all nodes; only node 0 needs the run's folder.
        settings: where the base is looked up; on node 0 also where the run and the model are stored.

    Returns:
        On node 0 the result, published if there is a registry; on other nodes how their part ended.

    Raises:
        Unavailable: not all nodes join. Invalid: they differ. NodeLost: a node has ended or cannot be reached. What
        `train` raises.
    """
    own = request if isinstance(request, TrainingRequest) else None
    run = "" if own else str(request)
    with _at_rendezvous(node, progress) as rendezvous:
        if not node.first:
            return _train_as_other(own, run, rendezvous, settings, registry, progress)
        folder = find_run(run, settings) if run else settings.runs_dir / new_ulid()
        resolved = replace(own or _stored_request(folder), nodes=node.count)
        rendezvous.run = folder.name
        finished = bool(run) and load_finished(folder) is not None
        _exchange_start(rendezvous, run, {"request": resolved.to_json(), "finished": finished})
        return train(
            resolved, settings=settings, registry=registry, out=folder, resume=bool(run), progress=progress,
            rendezvous=rendezvous,
        )  # fmt: skip


def _train_as_other(
    own: TrainingRequest | None,
    run: str,
    rendezvous: Rendezvous,
    settings: Settings,
    registry: Registry | None,
    progress: Progress,
) -> NodeResult:
    node = rendezvous.node
    start = _exchange_start(rendezvous, run, {})
    rendezvous.run = start["run"]
    if start["finished"]:
        progress(Stage("This run has finished already"))
        return NodeResult(node.rank, start["run"])
    request = replace(own or TrainingRequest.from_json(start["request"]), nodes=node.count)
    use_hub_token(settings.hub_token)
    device = find_device(settings, request.gpus)
    base = with_options(find_base(request.base, registry), request.chat_template, request.trust_remote_code)
    with tempfile.TemporaryDirectory(prefix=f"parley-node-{node.rank}-") as folder:
        part = TrainingRun(request, base, device, Path(folder), progress, rendezvous)
        try:
            return NodeResult(node.rank, start["run"], part.execute(registry, None).loss_after)
        except ParleyError:
            _copy_log(Path(folder), settings, f"train-{start['run']}-node-{node.rank}.log")
            raise


@contextmanager
def _at_rendezvous(node: Node, progress: Progress) -> Iterator[Rendezvous]:
    others = f"{node.count - 1} other node{'s' * (node.count > 2)}"
    progress(Stage(f"Node {node.rank} of {node.count}: waiting for {others} at {node.address}"))
    with open_rendezvous(node) as rendezvous:
        progress(Stage(f"All {node.count} nodes have joined"))
        yield rendezvous


def _exchange_start(rendezvous: Rendezvous, run: str, values: dict[str, Any]) -> dict[str, Any]:
    """Node 0's values, after checking that all nodes begin or continue the same run."""
    own = values | {"run": rendezvous.run, "resumes": Path(run).name}
    starts = rendezvous.exchange("start", own, rendezvous.node.timeout_s)
    for rank, other in enumerate(starts):
        if other["resumes"] != starts[0]["resumes"]:
            commands = [f"continues {start['resumes']}" if start["resumes"] else "begins a new run" for start in starts]
            raise Invalid(
                f"Node 0 {commands[0]}, but node {rank} {commands[rank]}: start the same command on all nodes.",
                param="resume",
            )
    return starts[0]


def _stored_request(folder: Path) -> TrainingRequest:
    stored = read_json(folder / CONFIG).get("asked") or {}
    if not stored.get("data"):
        raise Invalid(
            f"The run {folder.name} was trained on data in memory, which other nodes do not have: continue it without "
            "--nodes.",
            param="resume",
        )
    return TrainingRequest.from_json(stored)


def _copy_log(folder: Path, settings: Settings, name: str) -> None:
    if (folder / LOG).is_file():
        settings.logs_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / LOG, settings.logs_dir / name)
