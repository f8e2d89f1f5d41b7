"""train/data: any input raises only errors of users, and nothing is dropped silently."""

import contextlib
import copy
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from models.errors import Invalid
from train.data.checks import check
from train.data.conversations import Problem
from train.data.conversion import as_row
from train.data.readers import from_rows


@settings(deadline=None)
@given(some.binary(max_size=400), some.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".xlsx"]))
@pytest.mark.long
def test_no_bytes_raise_anything_but_a_users_mistake(raw: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(raw)
        with contextlib.suppress(Invalid):  # a CSV without the columns
            assert json.dumps(check(path).to_json()).encode()


WORDS = some.one_of(
    some.sampled_from(["system", "user", "assistant", "tool", "human", "gpt", "{}", "[]", "", "Hi", "\ud800", "name"]),
    some.text(max_size=8),
)
SCALARS = some.one_of(some.none(), some.booleans(), some.integers(), some.floats(), WORDS)
JSON = some.recursive(
    SCALARS,
    lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=8,
)
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 1}]
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "name": "find", "content": "there"},
            {"role": "assistant", "content": "There.", "weight": 1},
        ],
        "tools": [{"type": "function", "function": {"name": "find"}}],
        "metadata": {"topic": "x"},
    },
    {"messages": [CHAT[0], {"role": "assistant", "function_call": CALL["function"]}], "functions": [{"name": "find"}]},
    {"input": {"messages": CHAT[:1]}, "preferred_output": CHAT[1:], "non_preferred_output": CHAT[1:]},
    {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": "No"},
    {"chosen": CHAT, "rejected": CHAT},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "Be kind."},
    {
        "conversations": [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": '{"name": "find", "arguments": {}}'},
            {"from": "observation", "value": "x"},
        ],
        "tools": '[{"name": "find"}]',
    },
    {"instruction": "Hi", "input": "", "output": "Hello", "history": [["a", "b"]]},
    {"prompt": "Hi", "completion": "Hello"},
    {"turns": ["Hi", {"user": "a", "assistant": "b"}, {"role": "user", "text": "c"}]},
    {"question": "Hi", "answer": "Hello", "context": ["x"], "history": [{"user": "a", "assistant": "b"}]},
    {"prompt": "Hi", "completion": [CHAT[1] | {"reasoning_content": "Easy."}], "label": False, "hint": "say hello"},
    {"messages": [CHAT[0], CHAT[1] | {"loss": False}, *CHAT], "rejected_response": {"from": "gpt", "value": "No"}},
    {"conversations": [{"from": "human", "value": "Hi", "weight": 0}, {"from": "gpt", "value": "x", "training": True}]},
]


@some.composite
def spoilt_rows(draw: Any) -> Any:
    """A good row of any format, with up to three of its values, at any depth, replaced or removed."""
    row: Any = copy.deepcopy(draw(some.sampled_from(ROWS)))
    for _ in range(draw(some.integers(0, 3))):
        inside, key = row, None
        while isinstance(inside, dict | list) and inside:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            above, key = inside, draw(some.sampled_from(keys))
            inside = inside[key]
            if draw(some.booleans()):
                break
        if key is None:
            break
        if draw(some.booleans()):
            above[key] = draw(JSON)
        else:
            del above[key]
    return row


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(some.lists(some.one_of(spoilt_rows(), JSON), max_size=4))
def test_no_json_raises(rows: list[Any]) -> None:
    report = check(rows)
    assert json.dumps(report.to_json(), ensure_ascii=False).encode("utf-8")
    left = {problem.line for problem in report.errors}
    kept = (*report.examples, *report.preferences)
    for line in range(1, len(rows) + 1):  # nothing is dropped silently
        assert line in left or line in {item.line for item in kept}
    for example in report.examples:
        json.dumps(example.conversation.for_template(), ensure_ascii=False).encode("utf-8")
    for item in kept:  # what is written is read back unchanged
        (again,) = [read_item for read_item in from_rows([as_row(item)]) if not isinstance(read_item, Problem)]
        assert replace(again, line=0, metadata={}) == replace(item, line=0, metadata={})
