"""What a request may carry: refused, dropped, passed on."""

import pytest

from models.errors import Invalid
from serve import fields

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("name", sorted(fields.DANGEROUS))
def test_each_dangerous_field_is_named(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        fields.check({"model": "m", name: "anything"})
    assert refused.value.param == name
    fields.check({"model": "m", name: None})


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 129), ("n", 10**12), ("n", -1), ("n", "5"), ("n", True), ("top_logprobs", 21), ("best_of", 1000)],
)
def test_bounds(field: str, value: object) -> None:
    with pytest.raises(Invalid) as refused:
        fields.check({"model": "m", field: value})
    assert refused.value.param == field
    fields.check({"model": "m", field: 2})
    fields.check({"model": "m", field: None})


def test_the_template_cannot_come_in_by_the_back_door() -> None:
    with pytest.raises(Invalid):
        fields.check({"chat_template_kwargs": {"chat_template": "{{ evil }}"}})
    fields.check({"chat_template_kwargs": {"enable_thinking": False}})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}},
        {"type": "image_embeds", "image_embeds": "gASV"},
    ],
)
def test_no_engine_fetches_anything(part: dict) -> None:
    with pytest.raises(Invalid) as refused:
        fields.check_media({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]})
    assert refused.value.param == "messages"


def test_names_inside_tools_schemas_and_text_are_free() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "my chat_template and api_key"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"priority": {}}}}}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"n": {}}}}},
    }
    fields.check(body)
    fields.check_media(body)
    assert fields.for_engine(CHAT, body) is body


def test_unknown_fields_are_dropped_for_an_engine() -> None:
    assert fields.for_engine(CHAT, {"model": "m", "surprise": 1}) == {"model": "m"}
    assert fields.for_engine("/v1/completions", {"model": "m", "messages": []}) == {"model": "m"}
