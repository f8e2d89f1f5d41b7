"""train/data/tool_texts.py: tool calls that are written as text, as public data sets have them, become tool calls."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from train.data.checks import check
from train.data.reports import CheckedData
from train.data.tool_texts import open_tool_texts, without_tools

FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "find", "arguments": {"number": 5}}\n</tool_call>'
RESULT = '<tool_response>\n{"city": "Riga"}\n</tool_response>'
QUESTION = {"role": "user", "content": "Where is 5?"}
GLAIVE = {
    "system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    + json.dumps(FIND["function"], indent=4) + "\n" + json.dumps({"name": "stop"}, indent=4),
    "chat": "USER: Where is 5?\n\n\nASSISTANT: <functioncall> {\"name\": \"find\", \"arguments\": '{\"number\": 5}'} "
    '<|endoftext|>\n\n\nFUNCTION RESPONSE: {"city": "Riga"}\n\n\nASSISTANT: In Riga. <|endoftext|>\n\n\n\n',
}  # fmt: skip
HERMES = {
    "conversations": [
        {"from": "system", "value": f"Call functions.\n<tools>\n{json.dumps([FIND])}\n</tools>\nUse <tool_call>."},
        {"from": "human", "value": "Where is 5?"},
        {"from": "gpt", "value": "<tool_call>\n{'name': 'find', 'arguments': {'number': 5}}\n</tool_call>"},
        {"from": "tool", "value": RESULT},
        {"from": "gpt", "value": "In Riga."},
    ]
}
QWEN = {
    "messages": [
        {"role": "system", "content": f"<tools>\n{json.dumps(FIND)}\n{json.dumps(FIND)}\n</tools>"},
        QUESTION,
        {"role": "assistant", "content": CALL, "weight": 0},
        {"role": "user", "content": RESULT},
        {"role": "assistant", "content": "In Riga."},
    ]
}


def read(*rows: dict[str, Any]) -> CheckedData:
    return check(list(rows), provider="local")


@pytest.mark.parametrize(
    ("row", "tools", "system"),
    [
        (HERMES, 1, "Call functions.\n\nUse <tool_call>."),
        (QWEN, 2, None),
        (GLAIVE, 2, str(GLAIVE["system"]).partition("\n")[0]),
    ],
)
def test_calls_results_and_tools_become_fields(row: dict[str, Any], tools: int, system: str | None) -> None:
    report = read(row)
    (example,) = report.examples
    messages = example.conversation.as_dicts()
    assert [message["content"] for message in messages if message["role"] == "system"] == ([system] if system else [])
    call, result, answer = messages[-3:]
    assert (call["content"], call["tool_calls"][0]["function"]) == (
        None,
        {"name": "find", "arguments": '{"number": 5}'},
    )
    assert result == {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": '{"city": "Riga"}'}
    assert answer == {"role": "assistant", "content": "In Riga."}
    listed = example.conversation.tool_dicts() or []
    assert (len(listed), listed[0]["function"]["name"]) == (tools, "find")
    assert len(example.learnt) == (1 if row is QWEN else 2)
    assert (report.codes["text-tool-calls"], "unknown-tool" in report.codes) == (1, False)
    assert "were recognised: in line 1" in next(p.message for p in report.problems if p.code == "text-tool-calls")


def test_several_calls_with_text_before_them_and_several_results_in_one_message() -> None:
    both = f"Let me look.\n{CALL}\n{CALL.replace('5', '6')}"
    results = "<tool_response>1</tool_response>\n<tool_response>2</tool_response>"
    turns = [QUESTION, {"role": "assistant", "content": both}, {"role": "user", "content": results}]
    (example,) = read({"messages": [*turns, {"role": "assistant", "content": "Done."}], "tools": [FIND]}).examples
    _, call, first, second, _ = example.conversation.as_dicts()
    assert call["content"] == "Let me look."
    assert [result["content"] for result in (first, second)] == ["1", "2"]
    assert [result["tool_call_id"] for result in (first, second)] == [
        tool_call["id"] for tool_call in call["tool_calls"]
    ]


@pytest.mark.parametrize(
    "text",
    ["Write <tool_call>…</tool_call>.", f"{CALL} and wait", "<tool_call>{}</tool_call>", "<tool_call></tool_call>"],
)
def test_text_that_is_not_a_call_stays_text_and_is_reported(text: str) -> None:
    report = read({"messages": [QUESTION, {"role": "assistant", "content": text}]})
    (example,) = report.examples
    assert example.conversation.as_dicts()[1]["content"] == text
    assert "stays text" in next(p.message for p in report.problems if p.code == "text-tool-calls")


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("assistant", "<tool_call>" * 60_000),
        ("system", "<tools>[" * 60_000),
        ("system", "<tools>[" + " " * 60_000),
        ("system", "Use them if required -{" * 30_000),
        ("system", f"<tools>{'{} ' * 120_000}</tools>"),
    ],
)
def test_tags_without_an_end_are_read_in_linear_time(role: str, text: str) -> None:
    began = time.process_time()
    opened = open_tool_texts([{"role": role, "content": text}])
    assert (opened.messages, opened.tools) == (({"role": role, "content": text},), ())
    assert without_tools(text)[:5] in text
    assert time.process_time() - began < 3


def test_pairs_may_have_calls_as_text_and_many_rows_give_one_warning(tmp_path: Path) -> None:
    row = {"prompt": [QUESTION], "chosen": [{"role": "assistant", "content": CALL}], "rejected": "In Oslo."}
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row | {"tools": [FIND]}) for _ in range(3)))
    report = check(path, provider="local")
    assert len(report.preferences) == 3
    assert report.preferences[0].chosen[0].calls[0].name == "find"  # type: ignore[union-attr] -- a tool call
    assert report.codes["text-tool-calls"] == 1
