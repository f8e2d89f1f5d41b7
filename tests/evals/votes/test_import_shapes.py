"""Real-world files: spreadsheets' conventions, programs' words for empty cells, objects in the wrong place."""

import json
from pathlib import Path

import pytest

from evals.votes.imports.formats import VotesFile, read_votes_file
from evals.votes.imports.options import ImportOptions
from evals.votes.vote_import import import_votes
from evals.votes.votes import count_votes
from models.database import Database
from models.errors import Invalid

HEADER = "model_a,model_b,winner,prompt\n"
ROW = {"model_a": "m1", "model_b": "m2", "winner": "model_a", "prompt": "Q?"}


def read(folder: Path, name: str, content: str | bytes) -> VotesFile:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_votes_file(path, ImportOptions())


@pytest.mark.parametrize(
    "content",
    [
        "Model A; Model-B ;WINNER;Prompt\nm1;m2;a;Q?\n",
        "model_a, model_b, winner, prompt\nm1, m2, a, Q?\n",
        "sep=;\r\nmodel_a;model_b;winner;prompt\r\nm1;m2;a;Q?\r\n",
        HEADER + "M1,m2,m1,Q?\n",
    ],
)
def test_spellings_of_spreadsheets(tmp_path: Path, content: str) -> None:
    imported = read(tmp_path, "votes.csv", content)
    assert [(vote.left.lower(), vote.right, vote.choice, vote.prompt.strip()) for vote in imported.votes] == [
        ("m1", "m2", "left", "Q?")
    ]
    assert imported.votes[0].line == content.count("\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("votes.csv", "model_a,model_b,winner,prompt,Winner\nm1,m2,a,Q?,b\n", "two columns 'winner'"),
        ("votes.csv", " \n\n", "is empty"),
        ("votes.csv", HEADER, "has no rows"),
        ("votes.json", "[]", "has no rows"),
        ("votes.xlsx", b"PK\x03\x04\0\0", "save the table as CSV"),
        ("votes.parquet", b"PAR1\xff\xfe", "write it as JSONL"),
        ("votes.json", json.dumps({name: [value] * 2 for name, value in ROW.items()}), "one object for each row"),
        ("votes.json", json.dumps({name: {"0": value} for name, value in ROW.items()}), "one object for each row"),
    ],
)
def test_unreadable_files_are_refused_with_a_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        read(tmp_path, name, content)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW | {"winner": float("nan")}, "it has no winner"),
        (ROW | {"model_a": "nan"}, "the left model has no name"),
        (ROW | {"model_a": ["m1"]}, "its model_a is a list or an object"),
        (ROW | {"winner": ["model_a"]}, "the winner is a list or an object"),
        (ROW | {"created": 45413.5}, "an Excel day number"),
        ({"question_id": "1", "model": "m1", "games": [{"score": "A>B"}]}, "parley judge import"),
    ],
)
def test_rows_that_are_no_votes(tmp_path: Path, row: dict, reason: str) -> None:
    (bad,) = read(tmp_path, "votes.jsonl", json.dumps(row)).bad
    assert reason in bad.reason


def test_words_for_nothing_are_no_names(tmp_path: Path) -> None:
    rows = [ROW | {"voter": "nan", "id": "NaN", "prompt": f"Q{i}?"} for i in range(2)]
    imported = read(tmp_path, "votes.jsonl", "\n".join(map(json.dumps, rows)))
    assert [(vote.voter, vote.id) for vote in imported.votes] == [("unknown", None)] * 2


def test_a_quotation_mark_that_is_never_closed(tmp_path: Path) -> None:
    imported = read(tmp_path, "votes.csv", HEADER + 'm1,m2,a,Q1?\nm1,m2,a,"Q2?\nm1,m2,b,Q3?\n')
    assert len(imported.votes) == 1
    assert [(row.line, "not closed" in row.reason) for row in imported.bad] == [(3, True)]
    assert len(read(tmp_path, "votes.csv", HEADER + 'm1,m2,a,Q1?\nm1,m2,a,"Q2?\nstill"\n').votes) == 2
    assert len(read(tmp_path, "votes.csv", HEADER + 'm1,m2,a,"Q\n1?"\nm1,m2,a,5" disk\n').votes) == 2


def test_equal_ids_in_two_files_are_two_votes(any_database: Database, tmp_path: Path) -> None:
    """Spreadsheets number their rows from 1."""
    for i in range(2):
        (tmp_path / f"{i}.jsonl").write_text(json.dumps(ROW | {"id": 1, "prompt": f"Q{i}?", "voter": f"v{i}"}))
        assert import_votes(any_database, tmp_path / f"{i}.jsonl").new == 1
    assert count_votes(any_database) == 2


def test_names_that_only_look_equal_are_hinted_at(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    names = ("café", "cafe\u0301"), ("m\u200b1", "m1")
    path.write_text(
        "\n".join(
            json.dumps(ROW | {"model_a": name, "model_b": "z", "prompt": name}) for pair in names for name in pair
        )
    )
    notes = " ".join(import_votes(database, path).notes)
    assert r"'cafe\u0301' and 'caf\xe9' may be one model" in notes
    assert r"'m1' and 'm\u200b1' may be one model" in notes
