"""train/data/tables.py: CSV with any separator, names in any case, and Excel workbooks."""

import re
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from models.errors import Invalid
from train.data.conversations import Example, Problem
from train.data.readers import Columns, read


def texts(path: Path, columns: Columns | None = None) -> list[list[str]]:
    items = list(read(path, columns))
    assert [item for item in items if isinstance(item, Problem)] == []
    return [[message.content for message in item.conversation.messages] for item in items if isinstance(item, Example)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "sep=;\nprompt;response\nHi, you;Hello\n"),
        ("a.csv", "sep=\t\r\nprompt\tresponse\r\nHi, you\tHello\r\n"),
        ("a.csv", "prompt;response\nHi, you;Hello\n"),
        ("a.csv", "prompt|response\nHi, you|Hello\n"),
        ("a.csv", "prompt\tresponse\nHi, you\tHello\n"),
        ("a.tsv", 'prompt,response\n"Hi, you",Hello\n'),
        ("a.csv", 'Question,Answer\n"Hi, you",Hello\n'),
        ("a.csv", '"PROMPT "," Response"\n"Hi, you",Hello\n'),
        ("a.csv", ',prompt,response\n0,"Hi, you",Hello\n'),
        ("a.csv", 'sep=,;\nprompt,response\n"Hi, you",Hello\n'),
        ("a.csv", '\n , \nprompt,response\n"Hi, you",Hello\n'),
        ("a.csv", 'conversation\n"[""Hi, you"", ""Hello""]"\n'),
        (
            "a.csv",
            "messages\n\"[{'role': 'user', 'content': 'Hi, you'}, {'role': 'assistant', 'content': 'Hello'}]\"\n",
        ),
    ],
)
def test_the_separator_and_the_case_of_names_are_found(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8-sig"))
    assert texts(path) == [["Hi, you", "Hello"]]


def test_a_named_column_is_found_in_any_case_unless_two_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Customer Question,Agent-Reply\nHi,Hello\n")
    assert texts(path, Columns("customer_question", "agent reply")) == [["Hi", "Hello"]]
    path.write_text("ASKED,Asked,said\nHi,Hm,Hello\n")
    with pytest.raises(Invalid, match=r"no column 'asked'.*ASKED, Asked, said"):
        read(path, Columns("asked", "said"))


def test_a_line_is_the_row_s_own_below_excel_s_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nprompt;response\nHi;Hello\nalone\n")
    example, problem = read(path)
    assert (example.line, problem.line) == (3, 4)
    assert isinstance(problem, Problem)
    assert problem.code == "invalid-csv"


def test_a_workbook_without_openpyxl_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.tables.find_spec", lambda _: None)
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(Invalid, match=r"`pip install openpyxl`, or save the sheet as \.csv"):
        read(path)
    path.write_text("question,answer\n")
    with pytest.raises(Invalid, match=r"not an Excel workbook"):
        read(path)


def test_the_first_sheet_of_a_workbook_is_read_and_others_are_named(tmp_path: Path) -> None:
    book: Any = openpyxl.Workbook()
    for row in ([], ["Question", "Answer", "Ticket"], ["Hi, you", "Hello", 4821.0], [], ["How much?", 7, None]):
        book.active.append(row)
    book.create_sheet("Old").append(["Hm"])
    book.create_sheet("Empty")
    path = tmp_path / "a.xlsx"
    book.save(path)
    for name in ("a.xlsx", "a.csv"):  # a workbook is known by its content too
        warning, first, second = read(path.rename(tmp_path / name))
        path = tmp_path / name
        assert isinstance(warning, Problem)
        assert "not 'Old'" in warning.message
        assert isinstance(first, Example)
        assert isinstance(second, Example)
        assert [message.content for message in first.conversation.messages] == ["Hi, you", "Hello"]
        assert first.metadata == {"Ticket": "4821"} or first.metadata == {"ticket": "4821"}
        assert [message.content for message in second.conversation.messages] == ["How much?", "7"]
        assert (first.line, second.line) == (3, 5)


def edited(path: Path, pattern: bytes, text: bytes) -> Path:
    """A workbook with another text in its first sheet's file."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    parts["xl/worksheets/sheet1.xml"] = re.sub(pattern, text, parts["xl/worksheets/sheet1.xml"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        for name, part in parts.items():
            book.writestr(name, part)
    return path


@pytest.fixture
def workbook(tmp_path: Path) -> Path:
    book = openpyxl.Workbook()
    for row in (["question", "answer", "note"], ["Hi", "Hello"], ["Bye", "See you", None, "call them back"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    return tmp_path / "a.xlsx"


def test_a_sheet_is_read_whole_whatever_range_it_says_that_it_has(workbook: Path) -> None:
    items = list(read(edited(workbook, rb'<dimension ref="[^"]*"', b'<dimension ref="A1"')))
    examples = [item for item in items if isinstance(item, Example)]
    assert [[message.content for message in item.conversation.messages] for item in examples] == [
        ["Hi", "Hello"], ["Bye", "See you"]
    ]  # fmt: skip
    assert examples[1].metadata == {"note": "", "column 4": "call them back"}
    (problem,) = [item for item in items if isinstance(item, Problem)]
    assert problem.message == "`column 4` contains text and is not read: in line 3"


@pytest.mark.long
def test_a_sheet_that_unpacks_to_too_much_ends_with_an_error(workbook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.data.tables._LAST_ROW", 1_000)
    far = b'<row r="999999999999"><c r="A999999999999"><v>1</v></c></row></sheetData>'
    assert sum(isinstance(item, Example) for item in read(edited(workbook, b"</sheetData>", far))) == 2
    monkeypatch.setattr("train.data.tables._ALWAYS_ACCEPTED", 1_000)
    wide = b"".join(b'<row r="%d"><c r="XFD%d"><v>7</v></c></row>' % (row, row) for row in range(4, 99))
    items = list(read(edited(workbook, b'<row r="9{12}.*', wide + b"</sheetData></worksheet>")))
    assert len(items) < 20
    (problem,) = [item for item in items if isinstance(item, Problem) and item.severity == "error"]
    assert problem.code == "invalid-xlsx"
    assert "unpacks to more than" in problem.message
