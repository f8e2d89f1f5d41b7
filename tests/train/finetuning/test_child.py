"""train/finetuning/child.py: a training that does not fit now waits and reports it; one that can never fit is tried."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.jobs.jobs import claim, get_job
from models.jobs.worker import JobContext
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from tests.train.conftest import style_rows
from tests.train.finetuning.conftest import House
from train.finetuning.events import EventWriter
from train.request import TrainingRequest

pytestmark = pytest.mark.training  # the tiny base


@pytest.fixture
def request_for(database: Any, settings: Settings, tiny_base: Path, tmp_path: Path) -> Any:
    """A training's request, and the registry that has its base."""
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(tiny_base)))
    data = tmp_path / "training.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in style_rows(12)))
    return TrainingRequest(data, "tiny"), Registry(database), settings


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_fits_does_not_wait(request_for: Any, method: str) -> None:
    from train.finetuning.child import wait_for_memory

    request, registry, settings = request_for
    lines: list[dict[str, Any]] = []
    wait_for_memory(replace(request, method=method), settings.runs_dir / "run", registry, settings, lines.append)
    assert lines == []


def test_it_waits_while_memory_is_short_and_is_tried_where_it_would_never_do(
    request_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.finetuning import child
    from train.planning import machines

    real = machines.find_machine("cpu")
    free = iter([50 << 20, 50 << 20, 50 << 20, 50 << 20, 8 << 30])
    monkeypatch.setattr(child, "_AGAIN_S", 0.01)
    monkeypatch.setattr(machines, "find_machine", lambda *_: replace(real, free=next(free), memory=16 << 30))
    lines: list[dict[str, Any]] = []
    request, registry, settings = request_for
    child.wait_for_memory(request, settings.runs_dir / "run", registry, settings, lines.append)
    assert [list(line) for line in lines] == [["waiting"]]  # once, however long the wait
    assert "of 16.0 are free" in lines[0]["waiting"]

    monkeypatch.setattr(machines, "find_machine", lambda *_: replace(real, free=50 << 20, memory=60 << 20))
    child.wait_for_memory(request, settings.runs_dir / "run", registry, settings, lines.append)
    assert "tried all the same" in lines[1]["stage"]


def test_a_job_that_waits_reads_queued_and_says_why(house: House) -> None:
    api = house.client.fine_tuning.jobs
    job = api.create(model="tiny", training_file=house.upload())
    house.work("fine-tune-check")
    work = claim(house.database, "worker")
    assert work is not None
    context = JobContext(house.settings, house.database, work, "worker")
    events = EventWriter(context, job.id, house.settings.runs_dir / job.id, validated=False, method="supervised")
    events({"waiting": "The job stays queued for want of memory"})
    assert api.retrieve(job.id).status == "queued"
    assert house.messages(job.id)[-1] == "The job stays queued for want of memory"
    events({"stage": "Loading tiny"})
    assert api.retrieve(job.id).status == "running"
    assert house.messages(job.id)[-2:] == ["Fine-tuning job started", "Loading tiny"]
    assert get_job(house.database, work.id).message == "Loading tiny"
