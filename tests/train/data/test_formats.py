"""train/data/formats.py and files.py: every shape of row and kind of file becomes the same conversation."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid, Unavailable
from tests.train.data.test_readers import lines, roles
from train.data.checks import check
from train.data.conversations import Example, Preference, Problem
from train.data.readers import Columns, read

TURNS = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you")]
MESSAGES = [{"role": role, "content": text} for role, text in TURNS]
PREFERENCE = {
    "input": {"messages": MESSAGES[:3]},
    "preferred_output": [MESSAGES[3]],
    "non_preferred_output": [{"role": "assistant", "content": "No"}],
}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": MESSAGES}, "openai"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"},
                            {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you"}]}, "sharegpt"),
        ({"instruction": "Bye", "input": "", "output": "See you", "history": [["Hi", "Hello"]]}, "alpaca"),
        ({"prompt": MESSAGES[:3], "completion": MESSAGES[3:]}, "prompt-completion"),
        ({"turns": ["Hi", "Hello", "Bye", "See you"]}, "turns"),
        ({"turns": [{"user": "Hi", "assistant": "Hello"}, {"user": "Bye", "assistant": "See you"}]}, "turns"),
        ({"dialogue": [{"speaker": "customer", "text": "Hi"}, {"speaker": "agent", "text": "Hello"},
                       {"speaker": "customer", "text": "Bye"}, {"speaker": "agent", "text": "See you"}]}, "turns"),
    ],
)  # fmt: skip
def test_each_format_is_seen_and_keeps_all_turns(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    reading = read(lines(tmp_path / "a.jsonl", row | {"topic": "greeting"}), Columns(system="Be kind."))
    (example,) = reading
    assert isinstance(example, Example)
    assert reading.format == name
    turns = [(message.role, message.content) for message in example.conversation.messages]
    assert turns == [("system", "Be kind."), *TURNS]
    assert example.metadata == {"topic": "greeting"}
    (forced,) = read(tmp_path / "a.jsonl", format=name)
    assert isinstance(forced, Example)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": "Hello"},
        {"question": "Hi", "answer": "Hello"},
        {"query": "Hi", "response": "Hello"},
        {"instruction": "Hi", "output": "Hello"},
        {"prompt": "Hi", "response": "Hello"},
    ],
)
def test_pairs_by_any_of_their_usual_names(tmp_path: Path, row: dict[str, Any]) -> None:
    (example,) = read(lines(tmp_path / "a.jsonl", row | {"system": "Be kind."}))
    assert isinstance(example, Example)
    assert [message.content for message in example.conversation.messages] == ["Be kind.", "Hi", "Hello"]


@pytest.mark.parametrize(
    "row",
    [
        PREFERENCE,
        {"prompt": MESSAGES[:3], "chosen": MESSAGES[3:], "rejected": PREFERENCE["non_preferred_output"]},
        {"prompt": MESSAGES[:3], "chosen": "See you", "rejected": "No"},
        {"chosen": MESSAGES, "rejected": [*MESSAGES[:3], {"role": "assistant", "content": "No"}]},
    ],
)
def test_preference_pairs_of_openai_and_of_trl(tmp_path: Path, row: dict[str, Any]) -> None:
    (pair,) = read(lines(tmp_path / "a.jsonl", row))
    assert isinstance(pair, Preference)
    assert [(message.role, message.content) for message in pair.prompt] == TURNS[:3]
    assert [message.content for message in (*pair.chosen, *pair.rejected)] == ["See you", "No"]
    assert pair.preferred.learnt == (3,)


def test_a_forced_format_is_not_guessed_again_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"prompt": "Hi", "completion": "Hello"})
    (problem,) = read(path, format="openai")
    assert isinstance(problem, Problem)
    with pytest.raises(Invalid, match="sharegpt"):
        read(path, format="docx")


def test_tools_calls_and_results_are_read_and_given_back_as_they_were(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"number": 4821}'}}
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    messages = [
        {"role": "user", "content": "Where is 4821?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Leipzig"},
        {"role": "assistant", "content": "In Leipzig."},
    ]
    old = [
        messages[0],
        {"role": "assistant", "content": None, "function_call": call["function"]},
        {"role": "function", "name": "find", "content": "Leipzig"},
        messages[3],
    ]
    path = lines(
        tmp_path / "a.jsonl",
        {"messages": messages, "tools": tools, "parallel_tool_calls": False},
        {"messages": old, "functions": [tools[0]["function"]]},
    )
    new, older = read(path)
    assert isinstance(new, Example)
    assert new.conversation.as_dicts() == messages
    assert new.conversation.tool_dicts() == tools
    assert new.metadata == {"parallel_tool_calls": "false"}
    assert new.learnt == (1, 3)
    assert isinstance(older, Example)
    assert older.conversation.tool_dicts() == tools
    assert older.conversation.for_template()[1]["tool_calls"][0]["function"]["arguments"] == {"number": 4821}
    first, second = new.per_turn()
    assert (first.learnt, second.learnt) == ((1,), (3,))
    assert len(first.conversation.messages) == 2
    assert second.conversation == new.conversation


@pytest.mark.parametrize("role", ["observation", "tool_response", "ipython", "function"])
def test_results_under_other_names_answer_the_calls_in_their_order(role: str, tmp_path: Path) -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "find", "arguments": "{}"}} for n in (1, 2)]
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": role, "content": "Leipzig"},
        {"role": role, "content": "Riga"},
        {"role": "assistant", "content": "In Leipzig and Riga."},
    ]
    tools = [{"type": "function", "function": {"name": "find"}}]
    report = check(lines(tmp_path / "a.jsonl", {"messages": messages, "tools": tools}), provider="local")
    assert report.errors == ()
    results = report.examples[0].conversation.as_dicts()[2:4]
    assert [(result["role"], result["tool_call_id"], result["content"]) for result in results] == [
        ("tool", "c1", "Leipzig"), ("tool", "c2", "Riga"),
    ]  # fmt: skip


def test_sharegpt_with_tools_is_the_same_conversation(tmp_path: Path) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Where is 4821?"},
            {"from": "function_call", "value": '[{"name": "find", "arguments": {"number": 4821}}, {"name": "find"}]'},
            {"from": "observation", "value": "Leipzig"},
            {"from": "observation", "value": "nowhere"},
            {"from": "gpt", "value": "In Leipzig."},
        ],
        "tools": '[{"name": "find", "parameters": {}}]',
    }
    (example,) = read(lines(tmp_path / "a.jsonl", row))
    assert isinstance(example, Example)
    assert roles(example) == ["user", "assistant", "tool", "tool", "assistant"]
    assert example.conversation.tool_dicts() == [{"type": "function", "function": {"name": "find", "parameters": {}}}]
    call, _ = example.conversation.as_dicts()[1]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("find", {"number": 4821})
    assert check([row] * 12).codes.keys() == {"duplicate", "too-few"}


def test_a_json_list_over_many_lines_has_their_numbers_and_ends_where_it_breaks(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    good = json.dumps({"instruction": "Hi", "output": "Hello"}, indent=1)
    path.write_text(f"[\n{good},\n{good},\n{{broken\n]")
    first, second, problem = read(path)
    assert (first.line, second.line, problem.line) == (2, 6, 10)
    assert isinstance(problem, Problem)
    assert problem.code == "invalid-json"


def test_a_csv_of_a_known_format_needs_no_column_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,answer,topic\nHi,Hello,x\n")
    reading = read(path)
    (example,) = reading
    assert isinstance(example, Example)
    assert (reading.format, example.metadata) == ("question-answer", {"topic": "x"})
    path.write_text('question;answer\n"Hi; you";Hello, you\n')
    (example,) = read(path)
    assert isinstance(example, Example)
    assert [message.content for message in example.conversation.messages] == ["Hi; you", "Hello, you"]
    path.write_text('messages\n"' + json.dumps(MESSAGES).replace('"', '""') + '"\n')
    (example,) = read(path)
    assert isinstance(example, Example)
    assert roles(example) == [role for role, _ in TURNS]


def test_parquet_and_a_local_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow
    from pyarrow import parquet

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    table = {"asked": ["Hi", "Where?"], "said": ["Hello", None], "topic": ["x", "y"]}
    parquet.write_table(pyarrow.table(table), folder / "train.parquet")
    for source in (folder / "train.parquet", folder):
        first, second = read(source, Columns("asked", "said"))
        assert isinstance(first, Example)
        assert [message.content for message in first.conversation.messages] == ["Hi", "Hello"]
        assert first.metadata == {"topic": "x"}
        assert isinstance(second, Problem)
        assert second.line == 2
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": MESSAGES}]), tmp_path / "b.parquet")
    (example,) = read(tmp_path / "b.parquet")
    assert isinstance(example, Example)
    assert len(example.conversation.messages) == 4
    (tmp_path / "c.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(Invalid, match="Parquet"):
        read(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x89PNG\r\n", "a PNG image"), (b"PK\x03\x04", "a ZIP"), (b"\xff\xfem\0", "UTF-16 text. Save")],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, start: bytes, kind: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(start + bytes(range(256)) * 4)
    with pytest.raises(Invalid, match=f"a.{suffix} is not training data: it is {kind}"):
        read(path)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(Unavailable, match="hub cannot be reached for the data set nobody/nothing"):
        read("nobody/nothing")
