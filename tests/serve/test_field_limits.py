"""Schemas that an engine compiles: counts that would exhaust its memory are refused in every place for a schema."""

import json
from typing import Any

import openai
import pytest

from models.errors import Invalid
from serve.validation.field_limits import MAX_ITEMS, check_schemas
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream

KILLER: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1_000_000_000}
PLACES = {
    "response_format": lambda schema: {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    },
    "structural tag": lambda schema: {
        "response_format": {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": schema}}
    },
    "text": lambda schema: {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}},
    "structured_outputs": lambda schema: {"structured_outputs": {"json": schema}},
    "as text": lambda schema: {"structured_outputs": {"json": json.dumps(schema)}},
    "tag as text": lambda schema: {"structured_outputs": {"structural_tag": json.dumps({"format": schema})}},
    "in a grammar": lambda schema: {"structured_outputs": {"grammar": f"start: %json {json.dumps(schema)}"}},
    "tools": lambda schema: {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]},
    "flat tools": lambda schema: {"tools": [{"type": "function", "name": "f", "parameters": schema}]},
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_count_that_takes_all_memory_is_refused_wherever_it_stands(place: str) -> None:
    for schema in (KILLER, {"type": "object", "properties": {"a": {"anyOf": [KILLER]}}}, {"maxItems": 1e9}):
        if place == "in a grammar" and "maxItems" in schema:
            continue  # 1e9 is not a number in a grammar
        with pytest.raises(Invalid) as refused:
            check_schemas(PLACES[place](schema))
        assert refused.value.param in {"response_format", "text", "structured_outputs", "tools"}
    check_schemas(PLACES[place]({"type": "array", "minItems": 1, "maxItems": 1000}))


def test_many_counts_count_together() -> None:
    many = {"properties": {str(number): {"type": "array", "maxItems": MAX_ITEMS // 10} for number in range(11)}}
    with pytest.raises(Invalid):
        check_schemas(PLACES["structured_outputs"](many))


@pytest.mark.parametrize("text", ["a{1,1000000}", "(a|b){1000000}", "x: /a/{ 2 , 10000000 }"])
def test_repetitions_without_end_are_refused(text: str) -> None:
    for name in ("regex", "grammar"):
        with pytest.raises(Invalid):
            check_schemas({"structured_outputs": {name: text}})


def test_ordinary_schemas_and_odd_ones_pass() -> None:
    """The engine itself refuses what is not a schema."""
    check_schemas({"response_format": {"type": "json_object"}})
    check_schemas({"structured_outputs": {"regex": r"\d{4}-\d{2}", "choice": ["1000000"]}})
    check_schemas(PLACES["tools"]({"properties": {"minItems": {"type": "integer", "maximum": 10**12}}}))
    for odd in (None, 5, "x", [], {}, {"json": 5}, {"json": "{"}, {"json": None}, {"regex": ["a"]}, [[]]):
        for name in ("response_format", "text", "structured_outputs", "tools"):
            check_schemas({name: odd})


@pytest.mark.long
def test_it_reaches_no_engine_and_a_hosted_upstream_judges_itself(both: Serving, upstream: PacedUpstream) -> None:
    client = openai.OpenAI(base_url=both.base_url, api_key="k", max_retries=0)
    body = {"messages": [{"role": "user", "content": "x"}], **PLACES["response_format"](KILLER)}
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/chat/completions", body={"model": "engine", **body}, cast_to=object)
    assert refused.value.param == "response_format"
    assert upstream.seen.requests == []
    client.post("/chat/completions", body={"model": "whole", **body}, cast_to=object)
    assert len(upstream.seen.requests) == 1
