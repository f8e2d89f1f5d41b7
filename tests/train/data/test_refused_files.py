"""Files in nearly right layouts are read or refused with a cure; nothing beside the rows is dropped."""

import json
from pathlib import Path

import pytest

from models.errors import Invalid
from train.data.checks import check

ROWS = [{"question": f"Where is order {number}?", "answer": f"In box {number}."} for number in range(3)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "question^answer\nHi^Hello\n", "its first row is 'question.answer'. Write the names"),
        ("b.csv", "Hi,Hello\nBye,See you\n", "it has Hi, Hello. .* the first row must have the names"),
        ("a.parquet", "PAR1 broken", r"cannot be read as Parquet \(.*\): export it again, or save it as .jsonl"),
        ("a.jsonl", "\xff\xfe\0\0{", "it is UTF-32 text.*--encoding utf-32"),
        ("a.xlsx", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file that is old or has a password"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_cure(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(Invalid, match=message):
        check(tmp_path / name)


@pytest.mark.long
def test_a_folder_without_data_files_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    with pytest.raises(Invalid, match="has no data files"):
        check(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(json.dumps, ROWS)),
        "\r".join(map(json.dumps, ROWS)),
        json.dumps({"training_data": ROWS}),
    ],
)
def test_rows_without_line_breaks_and_under_another_name_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text, newline="")
    report = check(tmp_path / "a.jsonl", provider="local")
    assert [example.conversation.messages[1].content for example in report.examples] == [row["answer"] for row in ROWS]
    assert "file-layout" in report.codes


def test_a_system_message_beside_the_rows_of_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"system": "Be kind.", "data": ROWS}))
    messages = [problem.message for problem in check(tmp_path / "a.json").problems if problem.code == "file-layout"]
    assert "`system` beside the rows was not read" in messages


def test_the_text_parts_of_the_responses_api_are_text() -> None:
    row = {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}]}  # fmt: skip
    assert [message.content for message in check([row]).examples[0].conversation.messages] == ["Hi", "Hello"]
