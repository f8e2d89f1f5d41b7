"""A database at schema 0008 with stored completions: they stay as they are, and responses are stored beside them."""

import json

import sqlalchemy
from alembic import command

from models.completions.stored_completions import CompletionFilter, StoredCompletion, StoredCompletions
from models.database import Database, alembic_config, utcnow


def test_stored_completions_stay_and_responses_are_stored_beside_them(any_database: Database) -> None:
    with any_database.migration() as connection:
        command.downgrade(alembic_config(connection), "0008")
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}}]}
    row = {
        "id": "chatcmpl-1", "place": "01", "created": "2026-11-30 12:00:00", "model": "m", "key_id": "",
        "request_id": "req_1", "request": json.dumps({"messages": []}), "answer": json.dumps(answer),
        "labels": json.dumps({"desk": "orders"}), "expires": None,
    }  # fmt: skip
    with any_database.write() as session:
        columns = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        session.execute(sqlalchemy.text(f"INSERT INTO stored_completions ({columns}) VALUES ({values})"), row)
    with any_database.migration() as connection:
        command.upgrade(alembic_config(connection), "head")
    any_database.check_current()
    stored = StoredCompletions(any_database)
    old = stored.get("chatcmpl-1")
    assert (old.kind, old.previous_id, old.answer, old.metadata) == ("completion", None, answer, {"desk": "orders"})
    response = {"id": "resp_1", "output": []}
    stored.add([StoredCompletion("resp_1", utcnow(), "m", "", "req_2", {"input": "x"}, response, {}, kind="response")])
    assert [each.id for each in stored.walk(CompletionFilter(kind="response"))] == ["resp_1"]
    assert [each.id for each in stored.walk(CompletionFilter(kind="completion"))] == ["chatcmpl-1"]
