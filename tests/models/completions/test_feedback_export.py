"""`parley feedback export`: nothing is lost, in the shapes that Langfuse and OpenTelemetry's Collector read."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from typer.testing import CliRunner

from models.commands.feedback import add_feedback_commands
from models.completions.feedback import Feedback, add_feedback
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, utcnow
from models.settings.settings import Settings
from tests.otlp_collector import values


@pytest.fixture
def rated(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    answer: dict[str, Any] = {"id": "chatcmpl-1", "choices": [{"message": {"content": "Soon."}}]}
    stored = StoredCompletion("chatcmpl-1", utcnow(), "support", "", "req_1", {"messages": []}, answer, {})
    StoredCompletions(database).add([stored])
    given = [
        Feedback("chatcmpl-1", "rating", True, source_id="bot-1"),
        Feedback("req_1", "helpful", 0.25, correction="On Friday.\n", comment="too vague", source_id="desk-3"),
        Feedback("elsewhere", "topic", "refunds", source_kind="model"),
        Feedback("chatcmpl-1", "helpful", None, correction="Tomorrow."),
        Feedback("chatcmpl-1", "rating", None, source_id="bot-1"),
    ]
    for feedback in given:
        add_feedback(database, feedback)
    return database


def export(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    add_feedback_commands(app)
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["feedback", "export", *arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def test_scores_are_as_langfuse_takes_them(rated: Database, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    code, text = export(str(out))
    assert (code, text) == (0, f"6 scores in {out}\n")
    scores = read(out)
    assert [(each["traceId"], each["name"], each["dataType"], each["value"]) for each in scores] == [
        ("chatcmpl-1", "rating", "BOOLEAN", 1),
        ("chatcmpl-1", "helpful", "NUMERIC", 0.25),
        ("chatcmpl-1", "output", "CORRECTION", "On Friday.\n"),
        ("elsewhere", "topic", "CATEGORICAL", "refunds"),
        ("chatcmpl-1", "output", "CORRECTION", "Tomorrow."),
        ("chatcmpl-1", "rating", "CATEGORICAL", "none"),
    ]
    assert len({each["id"] for each in scores}) == 6
    assert {each["source"] for each in scores} == {"API"}
    assert [each.get("comment") for each in scores] == [None, "too vague", "too vague", None, None, None]
    assert scores[1]["metadata"] == {
        "name": "helpful", "sourceKind": "human", "sourceId": "desk-3", "model": "support", "requestId": "req_1"
    }  # fmt: skip
    assert export(str(out))[0] != 0  # it is not overwritten
    assert export(str(out), "--force", "--json") == (
        0, json.dumps({"rows": 6, "format": "langfuse", "file": str(out)}) + "\n",
    )  # fmt: skip


def test_events_are_as_the_collector_reads_them(rated: Database, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    assert export(str(out), "--format", "otel")[0] == 0
    records = [
        record
        for line in read(out)
        for resource in ParseDict(line, LogsData()).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    assert {record.event_name for record in records} == {"gen_ai.evaluation.result"}
    assert all(record.time_unix_nano for record in records)
    events = [values(record.attributes) for record in records]
    ids = [event.pop("parley.feedback.id") for event in events]
    assert len(set(ids)) == 5
    assert events[1] == {
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "0.25",
        "gen_ai.evaluation.explanation": "too vague",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "support",
        "parley.feedback.correction": "On Friday.\n",
        "parley.request": "req_1",
        "parley.source": "human",
        "parley.source_id": "desk-3",
    }
    labels = [event["gen_ai.evaluation.score.label"] for event in events]
    assert labels == ["true", "0.25", "refunds", "none", "none"]
    assert "gen_ai.response.model" not in events[2]


def test_a_mistake_is_one_line(settings: Settings, database: Database, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    assert "No feedback is stored yet" in export(str(tmp_path / "none.jsonl"))[1]
    assert not (tmp_path / "none.jsonl").exists()
    add_feedback(database, Feedback("a", "rating", True))
    assert "is a folder" in export(str(tmp_path))[1]
    (tmp_path / "file").touch()
    assert "cannot be written" in export(str(tmp_path / "file" / "scores.jsonl"))[1]
