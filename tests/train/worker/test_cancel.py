"""Cancelling a training's job: its process is gone within ten seconds, whatever it does at that moment."""

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from models.database import Database, open_database
from models.jobs import jobs
from models.jobs.worker import run_job
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from tests.train.conftest import style_rows
from train.run.folder import interrupted


def child_of(job_id: str) -> psutil.Process | None:
    """The training's process of this test's own worker; None while there is none."""
    for child in psutil.Process().children(recursive=True):
        try:
            if "train.worker.child" in " ".join(child.cmdline()):
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def while_loading(database: Database, job_id: str) -> psutil.Process:
    """As soon as there is a process: it imports torch and has not reported anything."""
    while (child := child_of(job_id)) is None:
        time.sleep(0.02)
    return child


def in_a_step_that_does_not_end(database: Database, job_id: str) -> psutil.Process:
    """A stopped process reacts to SIGTERM as little as one inside a matrix product."""
    while "step" not in jobs.get_job(database, job_id).message:
        time.sleep(0.05)
    child = child_of(job_id)
    assert child
    child.send_signal(signal.SIGSTOP)
    return child


@pytest.mark.training
@pytest.mark.parametrize("moment", [while_loading, in_a_step_that_does_not_end])
def test_a_cancelled_training_is_gone_within_ten_seconds(
    database: Database,
    settings: Settings,
    tiny_base: Path,
    tmp_path: Path,
    moment: Callable[[Database, str], psutil.Process],
) -> None:
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(tiny_base)))
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in style_rows(400)), "utf-8")
    wanted = {"data": str(data), "base": "tiny", "name": "styled", "threads": 1, "hyperparameters": {"epochs": 50}}
    job_id = jobs.enqueue(database, "train", wanted)
    gone_after: list[float] = []

    def cancel() -> None:
        own = open_database(settings)
        child = moment(own, job_id)
        began = time.monotonic()
        jobs.cancel(own, job_id)
        child.wait(30)
        gone_after.append(time.monotonic() - began)
        own.dispose()

    canceller = threading.Thread(target=cancel, daemon=True)
    job = jobs.claim(database, "worker")
    assert job
    canceller.start()
    run_job(settings, database, {"train": "train.worker.jobs:run_train_job"}, job, "worker")
    canceller.join(30)
    assert gone_after
    assert gone_after[0] < 10
    assert child_of(job_id) is None
    assert jobs.get_job(database, job_id).status == "cancelled"
    if moment is in_a_step_that_does_not_end:
        assert interrupted(settings.runs_dir / job_id)  # its progress is kept
