"""The log of chat completions: what is recorded is stored once, whatever the database or an upstream does."""

import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from models.completions.stored_completions import CompletionFilter, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Unavailable
from models.settings.settings import Settings
from serve.accounting import completion_log
from serve.accounting.completion_log import CapturedCompletion, CompletionLog
from serve.accounting.request_report import RequestRecord


def capture(text: str, *, response: bytes | None = None) -> tuple[CapturedCompletion, RequestRecord]:
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "store": True})
    answer = {"id": "same", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    captured = CapturedCompletion(body, lambda *_: None)
    captured.add(orjson.dumps(answer) if response is None else response)
    return captured, RequestRecord()


def answers(database: Database) -> list[str]:
    found, _ = StoredCompletions(database).page(CompletionFilter(), limit=100)
    return [completion.answer["choices"][0]["message"]["content"] for completion in found]


def test_everything_is_stored_in_order_though_some_answers_are_odd(settings: Settings, database: Database) -> None:
    log = CompletionLog(settings, database)
    texts = [f"text {number}" for number in range(70)]
    for text in texts:
        log.record(*capture(text))
    for odd in (b"", b"{", b"[]", b'{"choices": [3]}', b'{"choices": [{"delta": {}}]}'):
        log.record(*capture("odd", response=odd))
    log.record(*capture("a NUL \0 and a backslash \\u0000"))
    log._write()
    assert answers(database) == [*texts, "a NUL  and a backslash \\u0000"]


def test_an_index_of_a_tool_call_costs_no_memory(settings: Settings, database: Database) -> None:
    log = CompletionLog(settings, database)
    frame = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [{"index": 4000000000}]}}]}\n\n'
    captured, record = capture("x", response=frame)
    record.stream = True
    log.record(captured, record)
    began = time.process_time()
    log._write()
    assert (answers(database), time.process_time() - began < 1) == ([], True)


def test_a_database_that_does_not_answer_delays_and_a_refused_row_stops_nobody(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, add = CompletionLog(settings, database), StoredCompletions.add
    for text in ("one", "two", "three"):
        log.record(*capture(text))

    def away(*_: Any) -> None:
        raise Unavailable("The database does not answer.")

    def refuse_two(self: StoredCompletions, completions: Sequence[StoredCompletion]) -> None:
        if any(completion.request["messages"][0]["content"] == "two" for completion in completions):
            raise ValueError("refused")
        add(self, completions)

    monkeypatch.setattr(StoredCompletions, "add", away)
    log._write()
    assert len(log._waiting) == 3
    monkeypatch.setattr(StoredCompletions, "add", refuse_two)
    log._write()
    assert (answers(database), len(log._waiting)) == (["one", "three"], 0)


def test_what_waits_is_bounded_until_it_is_stored(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_log, "_MAX_WAITING_BYTES", 300)
    log = CompletionLog(settings, database)
    for number in range(10):
        log.record(*capture(f"text {number}"))
    assert 1 <= len(log._waiting) < 5
    log._write()
    stored = len(answers(database))
    log.record(*capture("later"))
    log._write()
    assert answers(database)[stored:] == ["later"]
