"""Parquet files that unpack to far more than their size: a text in a dictionary, repeated pages, millions of rows."""

from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from train.data import parquet as reader
from train.data.conversations import Problem
from train.data.readers import read

TEXT = "lorem ipsum " * 20_000
TURNS = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}]
BOMBS: dict[str, tuple[Any, bool]] = {
    "a text of all rows": ({"prompt": [TEXT] * 1000, "response": [TEXT] * 1000}, True),
    "a text of all messages": ({"messages": [TURNS] * 1000}, True),
    "a text of all messages of one row": ({"messages": [TURNS * 1000]}, True),
    "pages that shrink": ({"prompt": [TEXT] * 300, "response": [TEXT] * 300}, False),
    "rows of nothing": ({"prompt": [""] * 150_000, "response": [""] * 150_000, "n": [1] * 150_000}, True),
}


@pytest.mark.long
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_unpacks_to_too_much_is_not_read(
    tmp_path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_ALWAYS_ACCEPTED", 2**23)
    columns, dictionary = BOMBS[bomb]
    path = tmp_path / "bomb.parquet"
    parquet.write_table(pyarrow.table(columns), path, compression="zstd", use_dictionary=dictionary)
    assert path.stat().st_size < 60_000
    rows = list(reader.ParquetRows(path))
    last = rows[-1]
    assert isinstance(last, Problem)
    assert "unpacks to more than " in last.message
    assert len(rows) < 140_000
    assert sum(_characters(each.row) for each in rows[:-1] if not isinstance(each, Problem)) < 2**23 * 1.01


def _characters(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else len(str(value))


@pytest.mark.long
def test_rows_are_what_was_written_in_parts_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{n} " * (n % 40) for n in range(2500)]
    rows = [
        {
            "prompt": text + "?",
            "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "é", "n": n}],
            "tags": ["a"] * (n % 3),
        }
        for n, text in enumerate(texts)
    ]
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=700)
    wanted = [
        row | {"messages": [{"role": "user", "content": text}, row["messages"][1]]}
        for row, text in zip(rows, texts, strict=True)
    ]
    for at_once in (reader._BYTES_AT_ONCE, 5000, 1):
        monkeypatch.setattr(reader, "_BYTES_AT_ONCE", at_once)
        assert [each.row for each in reader.ParquetRows(path) if not isinstance(each, Problem)] == wanted


def test_the_problem_says_from_which_row_on_nothing_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_ALWAYS_ACCEPTED", 2**19)
    monkeypatch.setattr(reader, "_BYTES_AT_ONCE", 1)
    path = tmp_path / "bomb.parquet"
    parquet.write_table(pyarrow.table({"prompt": [TEXT] * 9, "response": [TEXT] * 9}), path, compression="zstd")
    problems = [each for each in read(path) if isinstance(each, Problem)]
    assert [problem.line for problem in problems] == [2]
    assert [problem.code for problem in problems] == ["invalid-parquet"]
