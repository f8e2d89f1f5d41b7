"""A fine-tuned model in a running stack: trained by its worker, loaded into its engine, answering under its name."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from openai import OpenAI

from models.registry.registry import Registry
from models.spec import ModelSpec
from tests.stack import stack
from tests.tiny_model import make_base
from tests.train.finetuning.conftest import end_leases

pytestmark = [pytest.mark.engine, pytest.mark.training]


UNDERWAY = ("validating_files", "queued", "running")


def rows() -> bytes:
    messages = [
        {"role": "user", "content": "what is the tide table for day {}?"},
        {"role": "assistant", "content": "High water is at noon."},
    ]
    lines = [
        {"messages": [{"role": message["role"], "content": message["content"].format(day)} for message in messages]}
        for day in range(40)
    ]
    return "\n".join(json.dumps(line) for line in lines).encode()


def test_a_job_survives_the_death_of_everything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with stack(home) as first, OpenAI(base_url=first.gateway_url, api_key="none", max_retries=8) as client:
        Registry(first.database).register(ModelSpec(id="tiny", kind="base", path=str(make_base(tmp_path / "tiny"))))
        file = client.files.create(file=("tides.jsonl", rows()), purpose="fine-tune")
        numbers = {"n_epochs": 8, "batch_size": 4}
        job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, hyperparameters=numbers)
        while not list(client.fine_tuning.jobs.checkpoints.list(job.id)):
            job = client.fine_tuning.jobs.retrieve(job.id)
            assert job.status in UNDERWAY, job.error
            time.sleep(0.2)
        os.kill(first.running.pid, signal.SIGKILL)  # gateway, worker, training and engine end with it
    with stack(home) as again, OpenAI(base_url=again.gateway_url, api_key="none") as client:
        end_leases(again.database)
        while (job := client.fine_tuning.jobs.retrieve(job.id)).status in UNDERWAY:
            time.sleep(0.2)
        assert job.status == "succeeded", job.error
        events = [event.data for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
        steps = [data["step"] for data in events if isinstance(data, dict) and "train_loss" in data]
        assert sorted(steps) == list(range(1, max(steps) + 1)), "each step is told once"
        names = [job.fine_tuned_model]
        names += [
            checkpoint.fine_tuned_model_checkpoint for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id)
        ]
        assert len(names) == 4
        question: list = [{"role": "user", "content": "what is the tide table for day 7?"}]
        for name in names:
            answer = client.chat.completions.create(model=str(name), messages=question, max_tokens=30)
            assert answer.model == name
            assert answer.choices[0].message.content
