"""The judge job as the worker runs it: registry, OpenAI SDK, and a fake server on a real socket."""

import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evals.judges.report import JudgeReport
from evals.judges.rubric import shipped_rubrics
from evals.tasks.evaluations import load_evaluation
from evals.votes.prompts import add_prompts
from models.chat.completer import StartPatience
from models.chat.judge_prompt import pairwise_answer, pointwise_answer
from models.database import Database
from models.jobs.jobs import claim, enqueue, get_job
from models.jobs.worker import run_job
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from parley import JOB_HANDLERS

NAMES = dict.fromkeys(name for rubric in shipped_rubrics() for name in rubric.criteria)


class FakeServer(BaseHTTPRequestHandler):
    """Answers chat completions in OpenAI's format: the judge with JSON, other models with a sentence."""

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = f"{sent['model']} says yes"
        if sent.get("response_format"):
            content = sent["messages"][-1]["content"]
            shape = json.dumps(sent["response_format"])
            criteria = dict.fromkeys((name for name in NAMES if f'"{name}"' in shape), 4)
            first = content.partition("[Answer A]\n")[2].partition("\n\n[Answer B]")[0]
            second = content.partition("[Answer B]\n")[2].partition("\n\nWhich answer")[0]
            worth = [text.startswith("one") + 2 * text.startswith("two") for text in (first, second)]
            text = pairwise_answer("so", criteria, criteria, "A" if worth[0] > worth[1] else "B")
            if "[Answer A]" not in content:
                text = pointwise_answer("so", criteria, 4)
        message = {"role": "assistant", "content": text}
        body = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": sent["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(settings: Settings, database: Database) -> Iterator[Settings]:
    """Settings whose gateway is the fake, and three registered models of which the judge has the family of `one`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    registry = Registry(database)
    for name in ("one", "two", "fair"):
        upstream = {"base_url": "http://127.0.0.1:1/v1", "model": name}
        base = "one" if name == "fair" else None
        registry.register(
            parse_spec(id=name, kind="hosted", upstream=upstream, base=base, toy=name == "fair", judge=name == "fair")
        )
    registry.alias("newest", "two")
    yield settings.model_copy(update={"port": server.server_port})
    server.shutdown()


def run(settings: Settings, database: Database, params: dict, kind: str = "judge"):
    job_id = enqueue(database, kind, params)
    job = claim(database, "worker")
    assert job is not None
    run_job(settings, database, JOB_HANDLERS, job, "worker")
    return get_job(database, job_id)


@pytest.mark.long
def test_a_judge_job_ends_in_a_report(served: Settings, database: Database) -> None:
    add_prompts(database, [{"prompt": f"Question {i}?"} for i in range(4)], "test")
    job = run(served, database, {"judge": "fair", "model_a": "one", "model_b": "newest", "prompts": 3})
    assert job.status == "succeeded", job.error
    assert job.result is not None
    report = JudgeReport.from_json(job.result)
    assert (report.model_b, report.judged, report.wins_b) == ("two", 3, 3)
    assert report.trusted
    assert "toy" in report.notes[0]
    assert "same family as one" in report.notes[1]


@pytest.mark.long
def test_an_evaluation_job_then_a_judge_over_its_answers(served: Settings, database: Database, tmp_path: Path) -> None:
    task = tmp_path / "talk.jsonl"
    rows = [{"turns": ["first", "second"], "category": "x"}, {"input": "plain", "category": "y"}]
    task.write_text("\n".join(json.dumps(row) for row in rows))
    params = {"task": str(task), "models": ["one", "newest"], "scorers": ["words", "judge:fair@general"]}
    job = run(served, database, params, "evaluate")
    assert job.status == "succeeded", job.error
    assert job.result is not None
    assert (job.progress, job.result["asked"]) == (1.0, 6)
    evaluation = load_evaluation(database, job.result["evaluation"])
    assert (evaluation.task, evaluation.models, len(evaluation.samples)) == ("talk", ("one", "two"), 3)
    for expected in ("same family as one", "fair's agreement with people", "fair's grades"):
        assert any(expected in note for note in evaluation.notes), expected
    job = run(served, database, {"judge": "fair", "model_a": "one", "model_b": "two", "evaluation": evaluation.id})
    assert job.result is not None, job.error
    report = JudgeReport.from_json(job.result)
    assert (report.judged, report.wins_b) == (3, 3)
    assert [row.turn for row in report.rows] == [1, 2, 1]
    assert report.rows[1].before_b[1].content == "two says yes"


@pytest.mark.long
def test_a_task_with_rows_that_are_none_fails_unless_they_are_to_be_left_out(
    served: Settings, database: Database, tmp_path: Path
) -> None:
    task = tmp_path / "faq.jsonl"
    task.write_text('{"input": "good"}\n{"expected": "nothing"}\n')
    params = {"task": str(task), "models": ["one"], "scorers": ["words"]}
    job = run(served, database, params, "evaluate")
    assert job.status == "failed"
    assert "line 2: it has no question" in (job.error or "")
    job = run(served, database, params | {"skip_bad": True}, "evaluate")
    assert job.status == "succeeded", job.error
    job = run(served, database, {"task": str(task), "scorers": ["words"]}, "evaluate")
    assert "needs the parameter 'models'" in (job.error or "")


@pytest.mark.long
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"judge": "fair", "model_a": "one"}, "needs the parameter 'model_b'"),
        ({"judge": "nobody", "model_a": "one", "model_b": "two"}, "no model 'nobody'"),
        ({"judge": "fair", "model_a": "one", "model_b": "two"}, "no prompts"),
        ({"judge": "fair", "model_a": "two", "model_b": "newest"}, "two different ones"),
    ],
)
def test_an_invalid_job_fails_with_the_reason(served: Settings, database: Database, params: dict, message: str) -> None:
    job = run(served, database, params)
    assert job.status == "failed"
    assert message in (job.error or "")


@pytest.mark.long
def test_the_job_fails_if_no_server_runs(served: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.served_models.StartPatience", partial(StartPatience, reconnect_s=0.5))
    add_prompts(database, [{"prompt": "Question?"}], "test")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = served.model_copy(update={"port": closed.getsockname()[1]})
    job = run(gone, database, {"judge": "fair", "model_a": "one", "model_b": "two"})
    assert job.status == "failed"
    assert "parley up" in (job.error or "")
