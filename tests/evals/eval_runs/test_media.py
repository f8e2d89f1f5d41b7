"""Images, audio and tool messages in eval runs: what the model and the judge get, and errors of single items."""

import base64
from typing import Any

import openai
import pytest

from evals.eval_runs.data_sources import as_message, row_messages
from evals.graders.templates import TemplateError
from evals.tasks.task import TaskSample
from models.chat.messages import ApiMessage, as_dicts, read_api_message
from tests.evals.eval_runs.conftest import Check
from tests.evals.eval_runs.house import EvalsHouse

PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
WAV = base64.b64encode(b"RIFF....WAVE").decode()
CONFIG: Any = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
LOOK = [
    {"type": "input_text", "text": "What is on {{item.name}}?"},
    {"type": "input_image", "image_url": "{{item.image}}", "detail": "low"},
    {"type": "input_audio", "input_audio": {"data": "{{item.sound}}", "format": "wav"}},
]
JUDGE: Any = {
    "type": "score_model", "name": "seen", "model": "judge", "pass_threshold": 0,
    "input": [{"role": "user", "content": ["Is {{sample.output_text}} right?", LOOK[1]]}],
}  # fmt: skip


def source(rows: list[dict[str, Any]], messages: Any) -> Any:
    content = [{"item": row} for row in rows]
    return {"type": "completions", "model": "one", "source": {"type": "file_content", "content": content},
            "input_messages": messages}  # fmt: skip


@pytest.mark.long
def test_the_model_and_the_judge_get_images_and_audio(house: EvalsHouse, checked: Check) -> None:
    found = house.client.evals.create(name="Looks", data_source_config=CONFIG, testing_criteria=[JUDGE])
    template: Any = {"type": "template", "template": [{"role": "user", "content": LOOK}]}
    rows = [{"name": "a.png", "image": PIXEL, "sound": WAV}, {"name": "b.png", "sound": WAV}]
    run = house.client.evals.runs.create(found.id, data_source=source(rows, template))
    job = house.work()
    assert job.status == "succeeded", job.error
    run = checked(house.client.evals.runs.retrieve(run.id, eval_id=found.id))
    assert (run.result_counts.total, run.result_counts.errored) == (2, 1)
    image, audio = (
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}},
    )
    asked = [body for body in house.upstream.bodies if "response_format" not in body]
    assert [body["messages"] for body in asked] == [
        [{"role": "user", "content": [{"type": "text", "text": "What is on a.png?"}, image, audio]}]
    ]
    (judged,) = [body["messages"] for body in house.upstream.bodies if "response_format" in body]
    assert judged[-1]["content"][1] == image
    good, bad = list(house.client.evals.runs.output_items.list(run.id, eval_id=found.id))
    assert checked(good).sample.input[0].content == "What is on a.png?\n[image]\n[audio]"
    assert bad.sample.error.message == "item.image has no value."


@pytest.mark.long
def test_a_conversation_with_tools_is_sent_as_it_is(house: EvalsHouse) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "stock", "arguments": '{"sku": 7}'}}
    conversation = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "In stock?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    ]
    rows = [{"talk": conversation}, {"talk": [*conversation[:3], {"role": "tool", "content": "3"}]}, {"talk": "hello"}]
    check: Any = {
        "type": "string_check",
        "name": "any",
        "operation": "like",
        "input": "{{sample.output_text}}",
        "reference": "",
    }
    found = house.client.evals.create(name="Tools", data_source_config=CONFIG, testing_criteria=[check])
    reference = {"type": "item_reference", "item_reference": "item.talk"}
    run = house.client.evals.runs.create(found.id, data_source=source(rows, reference))
    assert house.work().status == "succeeded"
    items = list(house.client.evals.runs.output_items.list(run.id, eval_id=found.id))
    assert [item.status for item in items] == ["pass", "error", "pass"]
    assert items[1].sample.error.message.startswith("The messages cannot be used: each needs the role")
    sent = next(body["messages"] for body in house.upstream.bodies if len(body["messages"]) == 4)
    assert sent == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "In stock?"},
        conversation[2],
        conversation[3],
    ]


def test_a_grader_with_a_wrong_image_is_refused(house: EvalsHouse) -> None:
    for image in ({"type": "input_image"}, {"type": "input_image", "image_url": "{{image}}"}):
        wrong = JUDGE | {"input": [{"role": "user", "content": [image]}]}
        with pytest.raises(openai.BadRequestError):
            house.client.evals.create(name="x", data_source_config=CONFIG, testing_criteria=[wrong])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"}, {"role": "user", "content": None}, {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}, {"role": "user", "content": [5]},
        {"role": "user", "content": [{"type": "image_url", "image_url": PIXEL}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": WAV, "format": "flac"}}]},
        {"role": "tool", "content": "3"}, {"role": "assistant", "tool_calls": [{"id": 1}]},
        {"role": "assistant", "content": None, "tool_calls": "x"}, {"role": "function", "content": "x"}, 5,
    ],
)  # fmt: skip
def test_other_messages_are_errors_of_their_item(message: Any) -> None:
    request = {"type": "completions", "input_messages": {"type": "item_reference", "item_reference": "item.talk"}}
    with pytest.raises(TemplateError, match="The messages cannot be used"):
        row_messages(request, {"item": {"talk": [message]}})


def test_a_stored_sample_keeps_its_parts() -> None:
    raw = as_message({"role": "user", "content": [*LOOK[:1], {"type": "input_image", "image_url": PIXEL}]})
    message = read_api_message(raw)
    assert isinstance(message, ApiMessage)
    assert message.content == "What is on {{item.name}}?\n[image]"
    stored = TaskSample.from_json(
        {
            "id": "0",
            "messages": as_dicts([message]),
            "expected": [],
            "topics": [],
            "category": None,
            "group": "",
            "metadata": {},
        }
    )
    assert stored.messages == (message,)
