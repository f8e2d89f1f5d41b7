"""Encodings and kinds of files: other encodings are offered and read, files that are not training data are refused."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from models.errors import Invalid
from models.files.file_kinds import foreign_kind
from train.data.conversations import Example, Problem
from train.data.readers import Columns, read

GERMAN = [("Wo ist das Paket für Müller?", "Es ist unterwegs – bald da"), ("Grüße", "Schöne Grüße")]
RUSSIAN = [("Где моя посылка?", "Она уже в пути"), ("Здравствуйте", "Добрый день")]
JAPANESE = [("荷物はどこですか", "もうすぐ届きます"), ("こんにちは", "ようこそ")]
CHINESE = [("我的包裹在哪里", "已经在路上了"), ("你好", "您好欢迎光临")]


def table(rows: list[tuple[str, str]], suffix: str) -> str:
    if suffix == "jsonl":
        return "\n".join(json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) for a, b in rows)
    if suffix == "json":
        return json.dumps([{"prompt": a, "completion": b} for a, b in rows], ensure_ascii=False, indent=1)
    return "\n".join(["prompt,response", *(f"{a},{b}" for a, b in rows)])


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
@pytest.mark.parametrize(
    ("encoding", "rows"), [("cp1252", GERMAN), ("cp1251", RUSSIAN), ("shift_jis", JAPANESE), ("gb18030", CHINESE)]
)
def test_the_encoding_is_offered_and_read(
    encoding: str, rows: list[tuple[str, str]], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(table(rows, suffix).encode(encoding))
    problems = [item for item in read(path) if isinstance(item, Problem) and item.code == "invalid-utf8"]
    assert problems
    assert {problem.mend for problem in problems} == {f"read it with --encoding {encoding}, or save the file as UTF-8"}
    examples = [item for item in read(path, Columns(encoding=encoding)) if isinstance(item, Example)]
    assert [tuple(message.content for message in item.conversation.messages) for item in examples] == rows


def test_one_broken_line_of_utf8_gets_no_offer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(table(GERMAN * 4, "jsonl").encode() + b'\n{"prompt": "\xfc", "completion": "x"}')
    (problem,) = [item for item in read(path) if isinstance(item, Problem)]
    assert (problem.line, problem.mend) == (9, "save the file as UTF-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_utf16_is_named_and_read_on_request(encoding: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(table(GERMAN, suffix).encode(encoding))
    with pytest.raises(Invalid, match=f"it is UTF-16 text. Save it as UTF-8, or read it with --encoding {encoding}"):
        read(path)
    items = list(read(path, Columns(encoding=encoding)))
    assert [isinstance(item, Example) for item in items] == [True, True]


def test_an_encoding_that_there_is_not_or_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(table(GERMAN, "jsonl"), "utf-8")
    for unknown in ("cp9999", "base64"):
        with pytest.raises(Invalid, match=f"no encoding '{unknown}'"):
            read(path, Columns(encoding=unknown))
    (problem,) = read(path, Columns(encoding="ascii"))
    assert isinstance(problem, Problem)
    assert (problem.line, problem.mend) == (1, "give another --encoding; nothing from this line on was read")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\xff\xfe"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "parquet"])
def test_an_empty_file_is_one_line(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=f"a.{suffix} is empty: give a file with rows"):
        read(path)


def test_packed_and_foreign_files_say_what_to_do(tmp_path: Path) -> None:
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(Invalid, match=r"it is a gzip file. Unpack it"):
        read(packed)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", "{}")
    with pytest.raises(Invalid, match=r"it is a ZIP or Office file. Unpack it"):
        read(tmp_path / "a.zip")
    (tmp_path / "a.arrow").write_bytes(b"ARROW1\0\0")
    with pytest.raises(Invalid, match=r"give the folder that `Dataset.save_to_disk` wrote"):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("start", "title"),
    [
        (b"RIFF\x00\x00\x00\x00WEBP", "a WebP image"), (b"%PDF-1.7", "a PDF file"),
        (b"\0" * 257 + b"ustar", "a tar file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file that is old or has a password"),
            (b"(\xb5/\xfd", "a Zstandard file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"), (b"<!DOCTYPE html>", "an HTML page"),
        (b"PAR1", "a Parquet file"), (b"BZh9", "a bzip2 file"),
    ],
)  # fmt: skip
def test_kinds_are_known_by_their_first_bytes(start: bytes, title: str) -> None:
    kind = foreign_kind(start)
    assert kind is not None
    assert kind.title == title
    assert kind.mend


@pytest.mark.parametrize("text", [b"{}", b"\xef\xbb\xbf[", "Grüße".encode(), b"a\0b", b"prompt,response\n"])
def test_text_is_no_foreign_kind(text: bytes) -> None:
    assert foreign_kind(text) is None
