"""Stored chat completions and responses as the rows of a run: graded as they are, or answered again by a model."""

from datetime import timedelta
from typing import Any

import openai
import pytest

from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import utcnow
from tests.evals.eval_runs.conftest import Check
from tests.evals.eval_runs.house import EvalsHouse

QUESTIONS = ("Where is my order?", "May I return it?", "Do you ship to Oslo?")


def store(house: EvalsHouse) -> None:
    for number, question in enumerate(QUESTIONS):
        messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": question}]
        message = {"role": "assistant", "content": "Yes." if number else "On its way."}
        answer = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        }
        created = utcnow() - timedelta(hours=len(QUESTIONS) - number)
        labels = {"desk": "orders" if number < 2 else "shipping"}
        stored = StoredCompletion(
            f"chatcmpl-{number}", created, "old", "", f"req_{number}", {"messages": messages}, answer, labels
        )
        StoredCompletions(house.database).add([stored])


def source(**options: Any) -> Any:
    return {"type": "completions", "source": {"type": "stored_completions", **options}}


@pytest.mark.long
def test_stored_answers_are_graded_or_answered_again(house: EvalsHouse, checked: Check) -> None:
    store(house)
    client = house.client
    says_yes: Any = {
        "type": "string_check", "name": "yes", "operation": "like", "input": "{{sample.output_text}}",
        "reference": "Yes",
    }  # fmt: skip
    config: Any = {"type": "stored_completions", "metadata": {"desk": "orders"}}
    made = client.evals.create(name="Orders", data_source_config=config, testing_criteria=[says_yes])
    run = checked(client.evals.runs.create(made.id, data_source=source(metadata={"desk": "orders"})))
    assert run.data_source.source.type == "stored_completions"
    StoredCompletions(house.database).delete("chatcmpl-1")  # the run has a copy
    assert house.work().status == "succeeded"
    done = checked(client.evals.runs.retrieve(run.id, eval_id=made.id))
    assert done.result_counts.to_dict() == {"total": 2, "errored": 0, "failed": 1, "passed": 1}
    assert house.upstream.asked == []
    items = [checked(item) for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
    assert [item.datasource_item["input"][1]["content"] for item in items] == list(QUESTIONS[:2])
    assert [item.datasource_item["model"] for item in items] == ["old", "old"]
    again = source(limit=1) | {
        "model": "one", "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }  # fmt: skip
    run = client.evals.runs.create(made.id, data_source=again)
    assert house.work().status == "succeeded"
    (item,) = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert item.sample.output[0].content == f"one says: {QUESTIONS[2]}"  # the newest
    for wrong in (source(metadata={"desk": "nobody"}), source(created_before=1), source(created_after=2**53)):
        with pytest.raises(openai.BadRequestError, match="No stored completion matches"):
            client.evals.runs.create(made.id, data_source=wrong)


@pytest.mark.long
def test_stored_responses_are_graded_or_answered_again(house: EvalsHouse, checked: Check) -> None:
    stored = StoredCompletions(house.database)
    for number, question in enumerate(QUESTIONS):
        text = {"type": "output_text", "text": "Yes." if number else "On its way.", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        answer = {"id": f"resp_{number}", "status": "completed", "output": [message], "usage": usage}
        request = {"input": question, "temperature": number / 2, "user": f"user-{number}"}
        request |= {"instructions": "Be short."} if number == 2 else {}
        previous = "resp_0" if number == 1 else None
        stored.add(
            [
                StoredCompletion(
                    f"resp_{number}", utcnow(), "old", "", f"req_{number}", request, answer, {"desk": "orders"},
                    kind="response", previous_id=previous,
                )
            ]
        )  # fmt: skip
    client = house.client
    says_yes: Any = {
        "type": "string_check", "name": "yes", "operation": "like", "input": "{{sample.output_text}}",
        "reference": "Yes",
    }  # fmt: skip
    config: Any = {"type": "logs", "metadata": {"desk": "orders"}}
    made = client.evals.create(name="Responses", data_source_config=config, testing_criteria=[says_yes])
    every: Any = {"type": "responses", "source": {"type": "responses", "metadata": {"desk": "orders"}}}
    run = checked(client.evals.runs.create(made.id, data_source=every))
    stored.delete("resp_1")  # the run has a copy
    assert house.work().status == "succeeded"
    done = checked(client.evals.runs.retrieve(run.id, eval_id=made.id))
    assert done.result_counts.to_dict() == {"total": 3, "errored": 0, "failed": 1, "passed": 2}
    items = [checked(item) for item in client.evals.runs.output_items.list(run.id, eval_id=made.id)]
    assert [[message["content"] for message in item.datasource_item["input"]] for item in items] == [
        [QUESTIONS[0]], [QUESTIONS[0], "On its way.", QUESTIONS[1]], ["Be short.", QUESTIONS[2]],
    ]  # fmt: skip
    again: Any = {
        "type": "responses", "source": {"type": "responses", "instructions_search": "short", "users": ["user-2"]},
        "model": "one", "input_messages": {"type": "item_reference", "item_reference": "item.input"},
    }  # fmt: skip
    run = client.evals.runs.create(made.id, data_source=again)
    assert house.work().status == "succeeded"
    (item,) = client.evals.runs.output_items.list(run.id, eval_id=made.id)
    assert item.sample.output[0].content == f"one says: {QUESTIONS[2]}"
    for wrong in ({"temperature": 0.7}, {"top_p": 0.5}, {"tools": ["track"]}, {"reasoning_effort": "low"}):
        nothing: Any = {"type": "responses", "source": {"type": "responses", **wrong}}
        with pytest.raises(openai.BadRequestError, match="No stored response matches"):
            client.evals.runs.create(made.id, data_source=nothing)
