"""Odd values for each forwarded field, against a real vLLM: refused or answered, without harm."""

import http.client
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from serve.validation import fields
from tests.stack import Stack

pytestmark = pytest.mark.engine

MODEL = "demo-base"
HELLO = [{"role": "user", "content": "hello"}]
BASES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 2},
    "/v1/completions": {"prompt": "hello", "max_tokens": 2},
    "/v1/responses": {"input": "hello", "max_output_tokens": 2},
}
VALUES: tuple[Any, ...] = ("x", -1, 10**12, 1e308, True, [], [10**9], {"a": 1}, {"999999": 5}, [[]])
# Each of these once broke some server that compiled, rendered, cut or unpacked it.
BODIES: tuple[dict[str, Any], ...] = (
    {"structured_outputs": {"regex": "(?<a"}},
    {"structured_outputs": {"regex": "(((a{1,1000}){1,1000}){1,1000})"}},
    {"structured_outputs": {"grammar": "root ::= root"}},
    {"structured_outputs": {"json": {"type": "string", "pattern": "["}}},
    {"structured_outputs": {"json": {"$ref": "#/nowhere"}}},
    {"structured_outputs": {"json": {"type": "array", "minItems": 10**9}}},
    {"structured_outputs": {"json": {"type": "string", "maxLength": 10**12}}},
    {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"choice": ["a"] * 5000}},
    {"structured_outputs": {"structural_tag": "x"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1/x"}},
        }
    },
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array", "minItems": 10**9}}}]},
    {"tools": [{}], "tool_choice": "required"},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
        ]
    },
    {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
    {"messages": [{"role": "user", "content": "hello " * 5000}]},
    {"chat_template_kwargs": {"messages": [], "tools": "x", "documents": 5}},
    {"prompt": [10**9]},
    {"prompt": [[]]},
    {"logit_bias": {"5": -1e30}},
    {"allowed_token_ids": [10**9]},
    {"stop": [""]},
    {"temperature": 0, "n": 2},
)


def test_odd_values_end_in_a_refusal_or_an_answer(demo_stack: Stack) -> None:
    place = urlsplit(demo_stack.gateway_url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    statuses: Counter[int] = Counter()

    def ask(path: str, body: dict[str, Any]) -> int:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        statuses[answer.status] += 1
        return answer.status

    for path, base in BASES.items():
        bodies = [{name: value} for name in sorted(fields.ALLOWED[path] - {"model"}) for value in VALUES]
        for body in (*bodies, *BODIES):
            assert ask(path, {"model": MODEL, **base, **body}) < 500, (path, json.dumps(body)[:300])
        assert ask(path, {"model": MODEL, **base}) == 200
    assert statuses[200] > 100
