"""train/data/readers.py: chat JSONL and CSV; a broken line never stops the others."""

import json
from pathlib import Path

import pytest

from models.errors import Invalid, NotFound
from train.data.conversations import Example, Problem
from train.data.readers import Columns, read

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def roles(example: Example) -> list[str]:
    return [message.role for message in example.conversation.messages]


def test_broken_lines_are_reported_with_their_number_and_the_others_are_read(tmp_path: Path) -> None:
    tool = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    path = lines(
        tmp_path / "a.jsonl",
        GOOD,
        "{not json",
        '["a list"]',
        "",
        {"messages": [{"role": "oracle", "content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [tool]},
        GOOD | {"tools": [{}]},
        GOOD,
    )
    items = list(read(path))
    assert [item.line for item in items] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert [isinstance(item, Example) for item in items] == [True, *[False] * 6, True]
    problems = [item for item in items if isinstance(item, Problem)]
    assert all(problem.severity == "error" and problem.message and problem.mend for problem in problems)
    assert "oracle" in problems[2].message


def test_bytes_that_are_not_utf8_spoil_their_own_line_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n\xff\xfe{}\n" + json.dumps(GOOD).encode())
    first, second, third = read(path)
    assert isinstance(first, Example)
    assert isinstance(second, Problem)
    assert "UTF-8" in second.message
    assert isinstance(third, Example)


def test_json_that_python_reads_and_a_tokenizer_does_not_is_reported(tmp_path: Path) -> None:
    half = {"messages": [{"role": "user", "content": "cut \ud83d"}, {"role": "assistant", "content": "Hello"}]}
    path = lines(tmp_path / "a.jsonl", half, '{"messages": ' + "9" * 5000 + "}", GOOD)
    first, second, third = read(path)
    assert isinstance(first, Problem)
    assert "half a character" in first.message
    assert isinstance(second, Problem)
    assert isinstance(third, Example)


def test_weight_zero_keeps_the_answer_as_context_and_does_not_learn_it(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hm", "weight": 0},
        {"role": "user", "content": "Really?"},
        {"role": "assistant", "content": "Hello", "weight": 1},
    ]
    wrong = [{"role": "user", "content": "Hi", "weight": 0}, {"role": "assistant", "content": "Hello"}]
    path = lines(tmp_path / "a.jsonl", {"messages": messages}, {"messages": wrong})
    example, problem = read(path, Columns(system="Be kind."))
    assert isinstance(example, Example)
    assert roles(example) == ["system", "user", "assistant", "user", "assistant"]
    assert example.learnt == (4,)
    assert isinstance(problem, Problem)
    assert "weight" in problem.message


def test_text_parts_are_joined_and_pictures_refused(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    path = lines(
        tmp_path / "a.jsonl",
        {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "assistant", "content": parts}]},
        {"messages": [{"role": "user", "content": picture}]},
    )
    example, problem = read(path)
    assert isinstance(example, Example)
    assert [(m.role, m.content) for m in example.conversation.messages] == [
        ("system", "Be brief."),
        ("assistant", "Hel\nlo"),  # as the engine joins them
    ]
    assert isinstance(problem, Problem)


def test_csv_with_named_columns_cells_over_lines_and_a_broken_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'question,answer,who\n"Where,\nplease?",There,guide\nonly one cell\nHi,"Hello ""you""",\nH\xe9,x,\n'
    )
    items = list(read(path, Columns("question", "answer", "who", "Be kind.")))
    assert [item.line for item in items] == [2, 4, 5, 6]
    first, _, third, _ = items
    assert isinstance(first, Example)
    assert [m.content for m in first.conversation.messages] == ["guide", "Where,\nplease?", "There"]
    assert isinstance(third, Example)
    assert [m.content for m in third.conversation.messages] == ["Be kind.", "Hi", 'Hello "you"']
    assert [isinstance(item, Problem) for item in items] == [False, True, False, True]


def test_a_csv_without_the_column_says_which_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("asked,said\nHi,Hello\n")
    with pytest.raises(Invalid, match=r"no column 'prompt'.*asked, said.*--prompt-column"):
        list(read(path))


def test_a_missing_file_and_an_unknown_kind_are_one_line_each(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read(tmp_path / "nothing.jsonl")
    (tmp_path / "a.docx").touch()
    with pytest.raises(Invalid, match="jsonl"):
        read(tmp_path / "a.docx")
