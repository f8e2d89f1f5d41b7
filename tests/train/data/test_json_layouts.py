"""train/data/json_layouts.py: files with rows in another JSON layout are read, with a warning about the layout."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.data.checks import check
from train.data.conversations import Example, Problem
from train.data.readers import read

ONE = {
    "messages": [
        {"role": "user", "content": "Hi, is it 5' wide?"},
        {"role": "assistant", "content": "Yes, [all] of it,"},
    ]
}
TWO = {"messages": [{"role": "user", "content": "Bye,]"}, {"role": "assistant", "content": "See you \u2013 soon"}]}
PAIR = {"question": "Hi", "answer": "Hello"}
TEXTS = ["Hi, is it 5' wide?", "Yes, [all] of it,", "Bye,]", "See you \u2013 soon"]
FRAME = {"prompt": {"0": TEXTS[0], "1": TEXTS[2]}, "completion": {"0": TEXTS[1], "1": TEXTS[3]}}


def dumped(*rows: Any, indent: int | None = None, between: str = "\n") -> str:
    return between.join(json.dumps(row, indent=indent) for row in rows)


# The file, what it holds, and the words of the warning; None for no warning. Each shape is from a public bug report.
LAYOUTS = {
    "a list in .jsonl": ("a.jsonl", dumped([ONE, TWO]), "a JSON list"),
    "a list over lines in .jsonl": ("a.jsonl", dumped([ONE, TWO], indent=2), "a JSON list"),
    "a list in .json": ("a.json", dumped([ONE, TWO]), None),
    "rows over several lines": ("a.jsonl", dumped(ONE, TWO, indent=4), "over several lines"),
    "rows over several lines with commas": ("a.json", dumped(ONE, TWO, indent=1, between=",\n"), "over several lines"),
    "an object with data": ("a.json", dumped({"version": "1.0", "data": [ONE, TWO]}), "one JSON object"),
    "an object over lines": ("a.jsonl", dumped({"train": [ONE, TWO]}, indent=2), "one JSON object"),
    "the data sets server": ("a.json", dumped({"rows": [{"row_idx": 0, "row": ONE}, {"row": TWO}]}), "one JSON object"),
    "pandas by column": ("a.json", dumped(FRAME), "one JSON object"),
    "pandas by index": ("a.json", dumped({"0": ONE, "1": TWO}), "one JSON object"),
    "rows by their ids": ("a.json", dumped({"query_60_0_3": ONE, "query_61": TWO}, indent=1), "one JSON object"),
    "pandas split": (
        "a.json", dumped({"columns": ["prompt", "completion"], "data": [TEXTS[:2], TEXTS[2:]]}), "one JSON object",
    ),
    "lines encoded twice": ("a.jsonl", dumped(dumped(ONE), dumped(TWO)), "inside a JSON string"),
    "a file encoded twice": ("a.json", dumped(dumped([ONE, TWO])), "inside a JSON string"),
    "JSONL encoded again": ("a.json", dumped(dumped(ONE, TWO)), "inside a JSON string"),
    "Python's repr": ("a.jsonl", f"{ONE!r}\n{TWO!r}", "Python's notation"),
    "Python's repr of a list": ("a.json", repr([ONE, TWO]), "Python's notation"),
    "a comma after each line": ("a.jsonl", dumped(ONE, TWO, between=",\n") + ",\n", "a comma after"),
    "a comma in a row": ("a.jsonl", dumped(ONE)[:-1] + ",}\n" + dumped(TWO), "a comma after"),
    "a comma in a list": ("a.json", f"[\n{dumped(ONE)},\n{dumped(TWO)[:-2]}, ] }},\n]", "a comma after"),
    "two lists": ("a.json", dumped([ONE], [TWO]), None),
    "a list of messages on each line": ("a.jsonl", dumped(ONE["messages"], TWO["messages"]), None),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_rows_are_read_and_the_layout_is_named_once(name: str, tmp_path: Path) -> None:
    file, text, warning = LAYOUTS[name]
    path = tmp_path / file
    path.write_text(text, "utf-8")
    reading = read(path)
    items = list(reading)
    examples = [item for item in items if isinstance(item, Example)]
    assert [message.content for item in examples for message in item.conversation.messages] == TEXTS
    assert len({item.line for item in examples}) == 2  # a line stands for one row, also in a list on one line
    assert reading.lines == 2
    problems = [item for item in items if isinstance(item, Problem)]
    assert [(problem.code, problem.severity) for problem in problems] == [("file-layout", "warning")] * bool(warning)
    assert all(warning and warning in problem.message and problem.mend for problem in problems)


def test_a_row_with_a_list_called_data_stays_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "Hi", "answer": "Hello", "results": [{"n": 1}]}))
    (example, *_) = [item for item in read(path) if isinstance(item, Example)]
    assert [message.content for message in example.conversation.messages] == ["Hi", "Hello"]


def test_one_list_of_several_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"test": [TWO], "train": [ONE], "validation": [TWO]}))
    report = check(path, provider="local")
    assert len(report.examples) == 1
    (problem,) = [problem for problem in report.problems if "only the list" in problem.message]
    assert problem.message == "only the list `train` of the object was read, not `validation`, `test`"
    assert (problem.severity, problem.code) == ("warning", "file-layout")


@pytest.mark.long
def test_rows_of_any_depth_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    depths = range(500, 1_000)  # the deepest readable nesting cannot be written
    path.write_text("\n".join(json.dumps({**PAIR, "deep": "*"}).replace('"*"', "[" * n + "]" * n) for n in depths))
    items = list(read(path))
    assert [item.line for item in items] == list(range(1, len(depths) + 1))
    assert isinstance(items[0], Example)
    assert isinstance(items[-1], Problem)


def test_a_file_may_be_the_messages_of_one_conversation(tmp_path: Path) -> None:
    for name, text in (("a.json", dumped(ONE["messages"], indent=2)), ("a.jsonl", dumped(ONE["messages"]))):
        (tmp_path / name).write_text(text)
        (example,) = read(tmp_path / name)
        assert isinstance(example, Example)
        assert [message.content for message in example.conversation.messages] == TEXTS[:2]


def test_text_after_a_list_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(dumped([ONE]) + "\n{}")
    example, problem = read(path)
    assert isinstance(example, Example)
    assert isinstance(problem, Problem)
    assert (problem.line, problem.message) == (2, "text after the end of the list")


def test_curly_quotes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\u201cprompt\u201d: \u201cHi\u201d}\n" + json.dumps(ONE), "utf-8")
    problem, example = read(path)
    assert isinstance(problem, Problem)
    assert "straight quotes" in problem.mend
    assert isinstance(example, Example)


def test_one_bad_row_of_a_list_on_one_line_leaves_out_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ONE, {"messages": [{"role": "oracle", "content": "?"}]}, TWO]))
    report = check(path, provider="local")
    assert [(problem.line, problem.code) for problem in report.errors] == [(2, "unknown-role")]
    assert [example.line for example in report.examples] == [1, 3]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{'messages': __import__('os').getcwd()}", [1]),  # literals only, and nothing is run
        ('{"messages": [}\n' + dumped(ONE), [1]),
        ("[" * 100_000, [1]),
        ("{'a': " * 500, [1]),
        ("{'question': 'Hi', 'answer': 'Yo', 'more': {(1, 2): {3}}}", [1]),
    ],
)
def test_what_is_neither_json_nor_nearly_is_an_error_at_its_line(text: str, lines: list[int], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    problems = [item for item in read(path) if isinstance(item, Problem) and item.severity == "error"]
    assert [problem.line for problem in problems] == lines
    assert {problem.code for problem in problems} == {"invalid-json"}


def test_columns_as_lists_are_rows_and_a_row_of_lists_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"prompt": ["Hi", "Bye"], "chosen": ["Hello", "See you"], "rejected": ["Go", "No"]}))
    report = check(path, provider="local")
    assert [pair.chosen[0].content for pair in report.preferences] == ["Hello", "See you"]
    assert report.codes["file-layout"] == 1
    turn = {"role": "user", "content": "Hi"}
    path.write_text(json.dumps({"prompt": [turn], "completion": [turn | {"role": "assistant"}]}))
    assert [example.line for example in check(path, provider="local").examples] == [1]
