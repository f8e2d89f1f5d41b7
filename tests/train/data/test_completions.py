"""`parley data from-completions`: stored answers and corrections become rows, each once; others are counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models.chat.personal_data import mask_personal
from models.completions.feedback import Feedback, add_feedback
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, utcnow
from models.keys import create_key, find_key
from models.settings.settings import Settings
from train.data.checks import check
from train.data_cli import data_commands


def store(
    database: Database, name: str, question: Any, answer: str, finish: str = "stop", key: str = "", **metadata: str
) -> None:
    request: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": question}]}
    message = {"role": "assistant", "content": answer, "refusal": None}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    whole = {"id": name, "object": "chat.completion", "choices": choices}
    StoredCompletions(database).add(
        [StoredCompletion(name, utcnow(), "m", key, f"req_{name}", request, whole, metadata)]
    )


@pytest.fixture
def stored(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    store(database, "a", "Where is my order?", "On its way.", desk="orders")
    store(database, "b", "Where is my order?", "On its way.", desk="orders")
    store(database, "c", "When do I get the refund?", "Soon.", desk="refunds")
    store(database, "d", "Write to ada@shop.org", "Done: call +49 30 1234 5678, card 4111 1111 1111 1111.")
    store(database, "e", "Tell me all", "It is a long", finish="length")
    add_feedback(database, Feedback("c", "helpful", False, correction="Within 5 days.", source_id="desk"))
    add_feedback(database, Feedback("req_a", "helpful", True))
    return database


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "120"}).invoke(data_commands(), ["from-completions", *arguments])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_answers_and_corrections_become_training_data(stored: Database, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    code, text = run(str(out), "--mask", "--json")
    assert code == 0, text
    counts = json.loads(text)
    assert (counts["read"], counts["rows"], counts["corrected"], counts["masked"]) == (5, 3, 1, 3)
    assert counts["left_out"] == {"a duplicate row": 1, "a truncated answer": 1}
    written = rows(out)
    assert [row["messages"][-1]["content"] for row in written] == [
        "On its way.", "Within 5 days.", "Done: call [PHONE], card [CARD].",
    ]  # fmt: skip
    assert written[2]["messages"][0]["content"] == "Write to [EMAIL]"
    assert not [problem for problem in check(written).problems if problem.severity == "error" and problem.line]
    assert run(str(out))[0] != 0  # it is not overwritten
    assert run(str(out), "--force", "--limit", "1")[0] == 0
    assert len(rows(out)) == 1


def test_filters_and_pairs(stored: Database, tmp_path: Path) -> None:
    code, text = run(str(tmp_path / "refunds.jsonl"), "--where", "desk=refunds")
    assert (code, len(rows(tmp_path / "refunds.jsonl"))) == (0, 1), text
    assert run(str(tmp_path / "good.jsonl"), "--min-feedback", "helpful=0.5")[0] == 0
    assert [row["messages"][0]["content"] for row in rows(tmp_path / "good.jsonl")] == ["Where is my order?"]
    assert run(str(tmp_path / "pairs.jsonl"), "--pairs")[0] == 0
    (pair,) = rows(tmp_path / "pairs.jsonl")
    assert pair["preferred_output"][0]["content"] == "Within 5 days."
    assert pair["non_preferred_output"][0]["content"] == "Soon."
    assert len(check(tmp_path / "pairs.jsonl").preferences) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--where", "desk"], "'desk' is not valid: use NAME=VALUE"),
        (["--min-feedback", "helpful=much"], "helpful=much is not valid: use a number"),
        (["--model", "nobody"], "None of 0 stored completions can become a row"),
        (["--min-feedback", "rating=1"], "5 left out: no feedback named rating"),
    ],
)
def test_a_mistake_is_one_line(stored: Database, tmp_path: Path, arguments: list[str], message: str) -> None:
    code, text = run(str(tmp_path / "none.jsonl"), *arguments)
    assert code != 0
    assert message in text
    assert not (tmp_path / "none.jsonl").exists()


def test_text_key_and_source_choose_and_near_duplicates_are_left_out(stored: Database, tmp_path: Path) -> None:
    create_key(stored, name="shop", role="client")
    key = find_key(stored, "shop").id
    long = (
        "Your parcel left our warehouse this morning and takes two working days. You can follow it on the orders page."
    )
    for name, text in (("f", f"{long} Kind regards, Zoë"), ("g", f"{long} Kind regards, Ada"), ("h", long.upper())):
        store(stored, name, "Is ÜBERNACHT possible?", text, key=key)
    out = str(tmp_path / "out.jsonl")
    assert json.loads(run(out, "--force", "--json", "--key", "shop")[1])["rows"] == 3
    assert json.loads(run(out, "--force", "--json", "--text", "übernacht")[1])["rows"] == 3
    assert json.loads(run(out, "--force", "--json", "--text", "regards, zoë")[1])["rows"] == 1
    assert "None of 0" in run(out, "--force", "--text", "assistant")[1]
    counts = json.loads(run(out, "--force", "--json", "--key", "shop", "--drop-near-duplicates")[1])
    assert (counts["rows"], counts["left_out"]) == (1, {"a near duplicate": 2})
    assert json.loads(run(out, "--force", "--json", "--corrected", "--feedback-from", "human")[1])["rows"] == 1
    assert "8 left out: no correction" in run(out, "--force", "--corrected", "--feedback-from", "code")[1]
    assert "There is no key 'nobody'" in run(out, "--force", "--key", "nobody")[1]


def test_prompts_are_those_that_a_campaign_takes(stored: Database, tmp_path: Path) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    parts = [{"type": "text", "text": "Two"}, {"type": "text", "text": "parts?"}]
    for name, content in (("p", picture), ("q", parts)):
        store(stored, name, content, "Yes.")
    out = tmp_path / "prompts.jsonl"
    counts = json.loads(run(str(out), "--prompts", "--json")[1])
    assert (counts["rows"], counts["left_out"]) == (
        5, {"a duplicate row": 1, "a prompt with images or tool calls": 1}
    )  # fmt: skip
    assert rows(out)[-1] == {"messages": [{"role": "user", "content": "Two\nparts?"}]}
    assert "exclude each other" in run(str(tmp_path / "x"), "--prompts", "--pairs")[1]


def test_masks_leave_other_texts_alone() -> None:
    for text in ("ada@example.com", "order 73194628", "ZD752690", "4111 1111 1111 1112", "12:30"):
        assert mask_personal(text) == (text, 0)
    assert mask_personal("sk-proj-" + "a" * 30) == ("[KEY]", 1)


def test_responses_become_conversations_with_the_turns_that_they_continue(stored: Database, tmp_path: Path) -> None:
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "track", "arguments": "{}"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    tool = {"type": "function", "name": "track", "parameters": {"type": "object"}}
    respond(stored, "1", {"input": "Where is it?", "instructions": "Be short.", "tools": [tool]}, [thought, call])
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Oslo"}
    respond(stored, "2", {"input": [result]}, [said("In Oslo.")], "resp_1")
    respond(stored, "3", {"input": "And now?"}, [said("I do not")], "resp_2", status="incomplete")
    respond(stored, "4", {"input": "And now?"}, [said("Unknown.")], "resp_gone")
    respond(stored, "5", {"input": "Search."}, [{"type": "web_search_call", "id": "ws_1"}, said("Here.")])
    out = tmp_path / "responses.jsonl"
    code, text = run(str(out), "--where", "desk=responses", "--json")
    assert code == 0, text
    assert json.loads(text)["left_out"] == {
        "a truncated answer": 1, "a deleted earlier turn": 1, "an item that chat completions do not have": 1,
    }  # fmt: skip
    first, second = rows(out)
    function = {"name": "track", "arguments": "{}"}
    called = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    assert first == {
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is it?"}, called],
        "tools": [{"type": "function", "function": {"name": "track", "parameters": {"type": "object"}}}],
    }
    assert second["messages"] == [
        {"role": "user", "content": "Where is it?"}, called | {"content": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "Oslo"}, {"role": "assistant", "content": "In Oslo."},
    ]  # fmt: skip
    assert not [problem for problem in check([first]).problems if problem.severity == "error" and problem.line]


def said(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def respond(
    database: Database, name: str, request: dict[str, Any], output: list[Any], previous: str | None = None,
    status: str = "completed",
) -> None:  # fmt: skip
    answer = {"id": f"resp_{name}", "object": "response", "status": status, "output": output}
    StoredCompletions(database).add(
        [
            StoredCompletion(
                f"resp_{name}", utcnow(), "m", "", f"req_{name}", request, answer, {"desk": "responses"},
                kind="response", previous_id=previous,
            )
        ]
    )  # fmt: skip
