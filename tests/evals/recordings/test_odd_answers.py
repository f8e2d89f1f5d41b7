"""Answers that no well-behaved server gives: each costs its own sample at most."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from evals.campaign_tables import RecordedAnswerRow
from evals.recordings.recording_export import recording_rows
from evals.recordings.recording_store import is_intact
from models.chat.completer import ServerAnswer
from models.database import Database
from tests.evals.recordings.recording import request, run, stored_prompts

TOKEN = {"token": "a", "logprob": -0.5, "top_logprobs": []}


def choice(**changes: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"} | changes


ODD: dict[str, Any] = {
    "infinite log-probability": {"choices": [choice(logprobs={"content": [TOKEN | {"logprob": float("-inf")}]})]},
    "log-probability of NaN": {"choices": [choice(logprobs={"content": [TOKEN | {"logprob": float("nan")}]})]},
    "log-probabilities as text": {"choices": [choice(logprobs={"content": "none"})]},
    "log-probabilities as a list": {"choices": [choice(logprobs=[1])]},
    "a NUL token": {"choices": [choice(logprobs={"content": [TOKEN | {"token": "\x00\ud800"}]})]},
    "a long reason": {"choices": [choice(finish_reason="stop" * 1000)]},
    "a reason that is no text": {"choices": [choice(finish_reason={"type": "stop"})]},
    "a reason with NUL": {"choices": [choice(finish_reason="a\x00")]},
    "content parts": {"choices": [choice(message={"content": [{"type": "text", "text": "hi"}]})]},
    "a number as content": {"choices": [choice(message={"content": 5})]},
    "half a surrogate pair": {"choices": [choice(message={"content": "a\ud800\x00"})]},
    "tokens without end": {"choices": [choice()], "usage": {"prompt_tokens": 10**30, "completion_tokens": 10**30}},
    "tokens as text": {"choices": [choice()], "usage": {"prompt_tokens": "many", "completion_tokens": None}},
    "fewer than no tokens": {"choices": [choice()], "usage": {"prompt_tokens": -5, "completion_tokens": -5}},
    "usage as a list": {"choices": [choice()], "usage": [1]},
    "no choices": {"choices": []},
    "null": None,
    "a page": "<html>",
}


class OddServer:
    """Gives the odd answer to the prompt "odd", and a good one to every other."""

    def __init__(self, odd: Any) -> None:
        self._odd = odd

    async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
        is_odd = body["messages"][-1]["content"] == "odd"
        return ServerAnswer(self._odd if is_odd else {"choices": [choice()]}, None)


@pytest.mark.long
@pytest.mark.parametrize("name", [*ODD])
def test_an_odd_answer_costs_its_own_sample_at_most(any_database: Database, tmp_path: Path, name: str) -> None:
    chosen = stored_prompts(any_database, "odd", *(f"question {i}" for i in range(5)))
    done = run(any_database, OddServer(ODD[name]), request(chosen, samples=1, concurrency=1), tmp_path)
    assert done.stopped is None
    assert done.asked == 6
    with any_database.read() as session:
        rows = list(session.scalars(select(RecordedAnswerRow)))
    assert len(rows) == 6
    assert sum(row.text == "fine" for row in rows) >= 5
    assert all((row.text is None) == (row.error is not None) for row in rows)
    assert is_intact(any_database, done.recording.id)
    for row in recording_rows(any_database, done.recording):
        json.dumps(row, allow_nan=False).encode()
