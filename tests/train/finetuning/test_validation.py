"""train/finetuning/validation.py: a bad file fails the job as at OpenAI, with an event for each line."""

import json
from typing import Any

import pytest

from tests.train.conftest import style_rows
from tests.train.finetuning.conftest import House


def pairs(number: int) -> list[dict[str, Any]]:
    return [
        {
            "input": {"messages": [{"role": "user", "content": f"where is order {1000 + line}?"}]},
            "preferred_output": [{"role": "assistant", "content": f"Order {1000 + line} is on its way."}],
            "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
        }
        for line in range(number)
    ]


def outcome(house: House, rows: Any, **fields: Any) -> Any:
    job = house.client.fine_tuning.jobs.create(model="tiny", training_file=house.upload(rows), **fields)
    assert job.status == "validating_files"
    house.work("fine-tune-check")
    return house.client.fine_tuning.jobs.retrieve(job.id)


def jsonl(rows: list[Any]) -> bytes:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


@pytest.mark.long
@pytest.mark.parametrize(
    ("rows", "code", "message"),
    [
        (style_rows(9), "invalid_n_examples", "Training file has 9 example(s), but must have at least 10 examples"),
        (jsonl([*style_rows(11), '{"messages": [']), "invalid_training_file", "Line 12: "),
        (jsonl([*style_rows(4), {"text": "no"}, *style_rows(12)]), "invalid_training_file", "Line 5: "),
        (
            jsonl([*style_rows(10), {"messages": [{"role": "user", "content": "only me"}]}]),
            "invalid_training_file",
            "Line 11: ",
        ),
        (
            jsonl([*style_rows(10), {"messages": [{"role": "robot", "content": "x"}]}]),
            "invalid_training_file",
            "robot",
        ),
        (pairs(12), "invalid_training_file", "is in the fine-tune-preference format"),
        (
            jsonl([{"prompt": f"Hi {n}", "completion": "Hello", "label": bool(n % 2)} for n in range(12)]),
            "invalid_training_file",
            "use `parley train FILE --method kto`",
        ),
        (b"\x00\xff\xfe" * 100, "invalid_training_file", "Invalid file format"),
    ],
)
def test_a_bad_training_file_fails_the_job(house: House, rows: Any, code: str, message: str) -> None:
    job = outcome(house, rows)
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == (code, "training_file")
    assert message in job.error.message
    assert job.finished_at
    last = house.client.fine_tuning.jobs.list_events(job.id).data[0]
    assert (last.level, last.message) == ("error", job.error.message)
    assert not (house.settings.runs_dir / job.id).exists()


@pytest.mark.long
def test_a_json_list_is_read_and_one_bad_row_of_it_is_named_by_its_number(house: House) -> None:
    job = outcome(house, json.dumps(style_rows(12)).encode())
    assert (job.status, job.error) == ("queued", None)
    events = [event.message for event in house.client.fine_tuning.jobs.list_events(job.id) if event.level == "warn"]
    assert any("a JSON list was read instead of one row per line" in message for message in events)
    bad = {"messages": [{"role": "robot", "content": "x"}]}
    job = outcome(house, json.dumps([*style_rows(10), bad, *style_rows(4)]).encode())
    assert job.status == "failed"
    assert "Line 11: " in job.error.message


@pytest.mark.long
def test_every_bad_line_has_its_event(house: House) -> None:
    bad = {"messages": [{"role": "user", "content": "only me"}]}
    job = outcome(house, jsonl([*style_rows(10), bad, bad, "{"]))
    messages = [event.message for event in house.client.fine_tuning.jobs.list_events(job.id) if event.level == "error"]
    for line in (11, 12, 13):
        assert any(message.startswith(f"Line {line}: ") for message in messages)
    job = outcome(house, jsonl([*style_rows(10), *[bad] * 80]))
    assert any("30 more problems" in message for message in house.messages(job.id))
    job = outcome(house, jsonl([row | {"rationale": "It was asked."} for row in style_rows(12)]))
    assert job.status == "queued"
    (warning,) = [message for message in house.messages(job.id) if "rationale" in message]
    assert warning.startswith(
        "Training file: `rationale` contains text and is not read: in 12 rows, the first is line 1"
    )


@pytest.mark.long
def test_a_bad_validation_file_is_named(house: House) -> None:
    job = outcome(house, 12, validation_file=house.upload(3))
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == ("invalid_n_examples", "validation_file")
    job = outcome(house, 12, validation_file=house.upload(b"{"))
    assert (job.error.code, job.error.param) == ("invalid_validation_file", "validation_file")
    assert "invalid validation file" in job.error.message


@pytest.mark.long
def test_conversations_are_no_pairs_and_pairs_are_taken_for_dpo(house: House) -> None:
    job = outcome(house, 12, method={"type": "dpo"})
    assert job.error.code == "invalid_training_file"
    assert "fine-tune-chat format" in job.error.message
    assert "provided method=dpo" in job.error.message
    assert outcome(house, pairs(12), method={"type": "dpo"}).status == "queued"
    assert outcome(house, pairs(9), method={"type": "dpo"}).error.code == "invalid_n_examples"


@pytest.mark.long
def test_a_file_that_is_deleted_before_it_was_looked_at_fails_the_job(house: House) -> None:
    file = house.upload()
    job = house.client.fine_tuning.jobs.create(model="tiny", training_file=file)
    from models.files.stored_files import Files

    Files(house.settings, house.database).delete(file)
    house.work("fine-tune-check")
    job = house.client.fine_tuning.jobs.retrieve(job.id)
    assert job.error
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert file in job.error.message


@pytest.mark.long
def test_a_file_that_is_deleted_afterwards_changes_nothing(house: House) -> None:
    from models.files.stored_files import Files
    from train.finetuning.validation import data_file

    file = house.upload()
    job = house.client.fine_tuning.jobs.create(model="tiny", training_file=file)
    house.work("fine-tune-check")
    Files(house.settings, house.database).delete(file)
    assert house.client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert data_file(house.settings.runs_dir / job.id, "training_file").read_bytes()
