"""The running demo end to end: the SDK, the toy judge run by the worker, and a training whose model is served."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from openai import OpenAI

from bench.real.judges import LogProbabilityJudge
from evals.judges.pairwise import judge_models
from evals.judges.report import JudgeReport
from evals.judges.request import JudgeRequest
from evals.judges.rubric import LIKELIHOOD_RUBRIC
from evals.served_runs import judge_served
from models.demo import FOLDER
from models.jobs import jobs
from models.registry.registry import Registry
from models.settings.environment import child_environment
from serve.fleet import engine_states
from tests.stack import ROOT, Stack
from train.demo.answers import has_style
from train.trainers.bases import find_base, load_model, load_tokenizer

pytestmark = pytest.mark.engine

MODELS = ["demo-base", "support-concise", "support-friendly", "support-judge", "support-tools"]


@pytest.fixture
def client(demo_stack: Stack) -> OpenAI:
    return OpenAI(base_url=demo_stack.gateway_url, api_key="no-key", max_retries=0)


def test_the_demo_lists_its_models_each_ready(client: OpenAI) -> None:
    listed = {model.id: model.to_dict()["parley"] for model in client.models.list()}
    assert {name: listed[name]["kind"] for name in MODELS} == {
        "demo-base": "base",
        "support-concise": "merged",
        "support-friendly": "adapter",
        "support-judge": "adapter",
        "support-tools": "adapter",
    }
    assert {listed[name]["state"] for name in MODELS} == {"ready"}


@pytest.mark.parametrize("model", ["demo-base", "support-concise"])
def test_each_bot_answers_with_the_customers_own_number(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "please cancel my order 73194628"}],
        temperature=0,
        max_tokens=150,
    )
    text = answer.choices[0].message.content or ""
    assert "73194628" in text
    assert "cancel" in text.lower()
    assert answer.choices[0].finish_reason == "stop"


def test_the_friendly_bot_keeps_its_style(client: OpenAI) -> None:
    """Its style is learnt; its facts and numbers are not yet, see models/demo/README.md."""
    answer = client.chat.completions.create(
        model="support-friendly",
        messages=[{"role": "user", "content": "please cancel my order 73194628"}],
        temperature=0,
        max_tokens=200,
    )
    assert has_style(answer.choices[0].message.content or "", "friendly")


def test_the_worker_runs_the_judge_over_served_models(demo_stack: Stack) -> None:
    params = {"judge": "support-judge", "model_a": "demo-base", "model_b": "support-concise", "prompts": 4}
    job_id = jobs.enqueue(demo_stack.database, "judge", params)
    deadline = time.monotonic() + 180
    while not (job := jobs.get_job(demo_stack.database, job_id)).over:
        assert time.monotonic() < deadline, job.message
        time.sleep(0.2)
    assert job.status == "succeeded", job.error
    assert job.result is not None
    report = JudgeReport.from_json(job.result)
    assert report.judged == 4
    assert report.unparsed == 0, "constrained decoding writes nothing but verdicts"
    assert report.weighed == 8, "an engine's log-probabilities weight every verdict"
    assert "toy" in json.dumps(job.result)


def test_an_engines_log_probabilities_judge_without_a_verdict(demo_stack: Stack) -> None:
    """They match those of the weights in this process, in float32."""
    import torch

    request = JudgeRequest("demo-base", ("support-concise", "support-friendly"), 2, LIKELIHOOD_RUBRIC)
    report = judge_served(demo_stack.settings, demo_stack.database, judge_models, request)
    assert (report.judged, report.flip_rate, report.unparsed, report.failed) == (2, 0.0, 0, 0)
    base = find_base(FOLDER / "base")
    judge = LogProbabilityJudge(load_model(base, torch.float32, "cpu"), load_tokenizer(base))
    for row in report.rows:
        scores = judge.answer(row.question, row.answer_a, row.answer_b)
        served = [float(score) for score in re.findall(r"-\d+\.\d+", row.reasons)]
        assert served == pytest.approx(scores, abs=0.05)
        assert row.outcome == ("a" if scores[0] > scores[1] else "b")


@pytest.mark.training
def test_what_is_trained_is_served_without_a_restart(demo_stack: Stack, client: OpenAI, tmp_path: Path) -> None:
    before = engine_states.read_statuses(demo_stack.database)["demo-base"]
    data = tmp_path / "conversations.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"what is the word of the day? it is day {day}"},
                {"role": "assistant", "content": "The word of the day is lighthouse."},
            ]
        }
        for day in range(48)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", str(data), "--base", "demo-base", "--name", "word-bot", "--epochs", "8", "--rank", "8"]
    trained = subprocess.run(
        [sys.executable, "-m", "parley", *command],
        env=child_environment(demo_stack.settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert trained.returncode == 0, trained.stderr
    assert "word-bot" in trained.stdout
    spec = Registry(demo_stack.database).resolve("word-bot")
    assert (spec.kind, spec.base, spec.parent) == ("adapter", "demo-base", "demo-base")
    patient = client.with_options(max_retries=5)
    answer = patient.chat.completions.create(
        model="word-bot",
        messages=[{"role": "user", "content": "what is the word of the day? it is day 9"}],
        temperature=0,
        max_tokens=40,
    )
    assert "lighthouse" in (answer.choices[0].message.content or "")
    after = engine_states.read_statuses(demo_stack.database)["demo-base"]
    assert (before.pid, before.address) == (after.pid, after.address)
