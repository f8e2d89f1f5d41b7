"""train/worker/jobs.py and child.py: a training as a job in its own process, from queue to registry."""

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.database import Database
from models.jobs import jobs
from models.jobs.worker import run_job
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings
from models.spec import ModelSpec
from tests.stack import ROOT
from tests.train.conftest import style_rows

HANDLERS = {"train": "train.worker.jobs:run_train_job"}
pytestmark = pytest.mark.training


@pytest.fixture
def queued(database: Database, settings: Settings, tiny_base: Path, tmp_path: Path) -> Any:
    """Queues a training and runs it as the worker would; returns the ended job."""
    Registry(database).register(ModelSpec(id="tiny", kind="base", path=str(tiny_base)))

    def run(rows: int = 60, *, while_running: Any = None, **params: Any) -> jobs.Job:
        data = tmp_path / "data.jsonl"
        data.write_text("\n".join(json.dumps(row) for row in style_rows(rows)))
        wanted = {"data": str(data), "base": "tiny", "name": "styled", "threads": 2} | params
        job_id = jobs.enqueue(database, "train", wanted)
        job = jobs.claim(database, "worker")
        assert job is not None
        if while_running:
            threading.Thread(target=while_running, args=(job_id,), daemon=True).start()
        run_job(settings, database, HANDLERS, job, "worker")
        return jobs.get_job(database, job_id)

    return run


def test_a_job_trains_and_publishes(queued: Any, database: Database) -> None:
    job = queued(hyperparameters={"epochs": 1, "rank": 4}, columns={"system": "Be kind."})
    assert job.status == "succeeded", job.error
    assert job.result is not None
    assert job.result["loss_after"] < job.result["loss_before"]
    assert Registry(database).resolve("styled").job == job.id


def test_a_job_that_cannot_be_done_says_why_in_one_line(queued: Any) -> None:
    job = queued(rows=0)
    assert job.status == "failed"
    assert job.error == "data.jsonl is empty: give a file with rows."
    assert "\n" not in job.error
    job = queued(hyperparameters={"n_epochs": 3})
    assert "n_epochs" in job.error


def test_a_missing_parameter_is_reported_without_the_output_of_libraries(settings: Settings) -> None:
    noisy = """
import os, sys
from train.worker import child
child._run = lambda values, work, write: (print("noise"), os.system("echo more"), write({"progress": 0.5}), {})[-1]
sys.exit(child.main())
"""
    for program, expected in (
        (("-c", noisy), [{"progress": 0.5}, {"result": {}}]),
        (("-m", "train.worker.child"), [{"error": "A training job needs 'data'.", "code": None, "param": "data"}]),
    ):
        child = subprocess.run(
            [sys.executable, *program], input="{}", text=True, capture_output=True, env=child_environment(settings),
            check=False, cwd=ROOT,
        )  # fmt: skip
        assert [json.loads(line) for line in child.stdout.splitlines()] == expected, child.stderr


@pytest.mark.long
def test_the_programs_of_a_job_end_with_its_worker() -> None:
    child = (
        "import subprocess, sys; from train.worker import child; "
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True); child._exit_with_parent(int(sys.argv[1]))"
    )
    worker = (
        "import os, subprocess, sys; "
        f"subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())], start_new_session=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    program = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        while program.status() != psutil.STATUS_ZOMBIE:  # a container's first process may reap nothing
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.long
def test_a_child_whose_worker_is_gone_already_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "train.worker.child", str(gone.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) as child:  # its standard input stays open
        assert child.wait(timeout=120) == 1
