"""Exports of Label Studio and Argilla, in the forms that these programs write."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.votes.imports.formats import VotesFile, read_votes_file
from evals.votes.imports.options import ImportOptions
from evals.votes.vote_import import import_votes
from evals.votes.votes import read_votes
from models.database import Database

TEXTS = {"prompt": "Why?", "answer1": "Because.", "answer2": "No idea.", "model_a": "new", "model_b": "old"}
FIELDS = {"instruction": "Why?", "response_a": "Because.", "response_b": "No idea."}
MODELS = {"model_a": "new", "model_b": "old"}


def annotation(number: int, result: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"id": number, "completed_by": {"id": number % 2, "email": "ann@example.org"}, "was_cancelled": False,
            "created_at": "2026-05-01T10:00:00.000000Z", "result": result} | fields  # fmt: skip


def pairwise(selected: str) -> list[dict[str, Any]]:
    return [{"type": "pairwise", "from_name": "pw", "to_name": "t1,t2", "value": {"selected": selected}}]


def read(folder: Path, rows: Any, **options: Any) -> VotesFile:
    path = folder / "export.json"
    path.write_text(json.dumps(rows))
    return read_votes_file(path, ImportOptions(**options))


def test_label_studio(database: Database, tmp_path: Path) -> None:
    tie = [{"type": "choices", "value": {"choices": ["tie"]}}]
    tasks = [
        {"id": 1, "data": TEXTS, "annotations": [annotation(1, pairwise("left")), annotation(2, pairwise("right"))]},
        {"id": 2, "data": TEXTS | {"prompt": "How?"}, "annotations": [
            annotation(3, tie), annotation(4, [], was_cancelled=True), annotation(5, [])
        ]},
        {"id": 3, "data": TEXTS, "annotations": []},
    ]  # fmt: skip
    imported = read(tmp_path, tasks)
    assert [(vote.choice, vote.voter, vote.left_answer) for vote in imported.votes] == [
        ("left", "annotator-1", "Because."), ("right", "annotator-0", "Because."), ("tie", "annotator-1", "Because.")
    ]  # fmt: skip
    assert imported.skipped == {"an annotation that was cancelled": 1, "a task without annotations": 1}
    assert [row.line for row in imported.bad] == [2]
    assert "--columns winner=YOURS" in imported.bad[0].reason
    assert import_votes(database, tmp_path / "export.json").format == "labelstudio"
    assert len(read_votes(database)) == 3


def test_label_studio_without_models(tmp_path: Path) -> None:
    data = {name: value for name, value in TEXTS.items() if not name.startswith("model")}
    imported = read(tmp_path, [{"data": data | {"left_bot": "new"}, "annotations": [annotation(1, pairwise("left"))]}])
    assert "name the column with --columns" in imported.bad[0].reason


@pytest.mark.parametrize("flat", [False, True])
def test_argilla(tmp_path: Path, flat: bool) -> None:
    record: dict[str, Any] = {"id": "r1", "fields": FIELDS, "metadata": MODELS, "suggestions": {}, "vectors": {},
                              "responses": {"preference": [{"value": "response_a", "user_id": "u1"},
                                                           {"value": "tie", "user_id": "u2"}],
                                            "why": [{"value": "shorter", "user_id": "u1"}]}}  # fmt: skip
    if flat:
        record = {"id": "r1", **FIELDS, **MODELS, "preference.responses": ["response_a", "tie", "response_b"],
                  "preference.responses.users": ["u1", "u2", "u3"],
                  "preference.responses.status": ["submitted", "submitted", "draft"]}  # fmt: skip
    imported = read(tmp_path, [record])
    assert [(vote.choice, vote.voter, vote.right_answer) for vote in imported.votes] == [
        ("left", "u1", "No idea."), ("tie", "u2", "No idea.")
    ]  # fmt: skip
    assert not imported.bad
    assert imported.skipped == ({"a response that is a draft": 1} if flat else {})


def test_argilla_rankings_and_several_questions(tmp_path: Path) -> None:
    ranked = [{"rank": 2, "value": "response_a"}, {"rank": 1, "value": "response_b"}]
    shared = [{"rank": 1, "value": "response_a"}, {"rank": 1, "value": "response_b"}]
    rows = [
        {"id": i, "fields": FIELDS | MODELS, "responses": {name: [{"value": value, "user_id": "u1"}]}}
        for i, (name, value) in enumerate([("rank", ranked), ("rank", shared), ("rank", ["response_b", "response_a"])])
    ]
    assert [vote.choice for vote in read(tmp_path, rows).votes] == ["right", "tie", "right"]
    two = {
        "id": 9,
        "fields": FIELDS | MODELS,
        "responses": {"tone": [{"value": "model_a"}], "facts": [{"value": "model_b"}]},
    }
    assert "--columns winner=NAME" in read(tmp_path, [two]).bad[0].reason
    assert [vote.choice for vote in read(tmp_path, [two], columns={"winner": "facts"}).votes] == ["right"]
