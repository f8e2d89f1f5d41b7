"""Files of votes as other tools write them: each shape is read, or refused with a one-line cure."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.votes.imports.choices import parse_scale, parse_words
from evals.votes.imports.options import ImportOptions
from evals.votes.vote_export import vote_rows
from evals.votes.vote_import import ImportResult, import_votes
from models.database import Database
from models.errors import Invalid


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def winners(database: Database) -> list[str]:
    """Each vote's winner by its model's name, in order."""
    return [row.get(row["winner"], row["winner"]) for row in vote_rows(database)]


def parts(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]


ARENA = {
    "id": "e1", "model_a": "m1", "model_b": "m2", "winner": "model_b", "evaluation_session_id": "s", "language": "en",
    "conversation_a": [{"role": "user", "content": parts("Hi?")}, {"role": "assistant", "content": parts("one")}],
    "conversation_b": [{"role": "user", "content": parts("Hi?")}, {"role": "assistant", "content": parts("two")}],
}  # fmt: skip
KAGGLE = """id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie
30192,gpt-4,claude,"[""Is it?"", ""Why?""]","[""Yes."", ""So.""]","[""No."", ""Because.""]",1,0,0
53567,gpt-4,claude,"[""What is it?""]","[""A \\ud83d\\ude00 car.""]","[""A bus.""]",0,0,1
65089,gpt-4,claude,"[""Who?""]","[""He.""]","[""She.""]",0,1,0
65090,gpt-4,claude,"[""Who?""]","[""He.""]","[""She.""]",0,0,0
"""
ARGILLA = [
    {"prompt": "Sum it up.",
     "chosen": [{"role": "user", "content": "Sum it up."}, {"role": "assistant", "content": "Good"}],
     "rejected": [{"role": "user", "content": "Sum it up."}, {"role": "assistant", "content": "Bad"}],
     "chosen-model": "zephyr", "rejected-model": "alpaca"},
    {"prompt": "Sum it up.", "chosen": "Good", "rejected": "Bad", "chosen-model": "alpaca", "rejected-model": "zephyr"},
]  # fmt: skip
LABEL_STUDIO = "id,annotation_id,annotator,model_a,model_b,prompt,answer1,answer2,comparison\n" + "".join(
    f"{task},{task}{who},user{who},a,b,Question {task}?,one,two,{choice}\n"
    for task in (7, 8)
    for who, choice in enumerate(("left", "right", "left"))
)
PROLIFIC = (
    "PROLIFIC_PID;task;bot1;bot2;better;rater_1;rater_2\n"
    "5f1;Refund?;old;new;same;bot1;same\n5f2;Refund?;old;new;bot2;bot2;\n5f3;Refund?;old;;bot2;bot2;bot1\n"
)
HELPSTEER = [
    {"prompt": "Why?", "response_1": "a", "response_2": "b", "preference_strength": strength, "model_1": "x",
     "model_2": "y"}
    for strength in (-3, 0, 1)
]  # fmt: skip


def test_arena_with_parts_of_content(database: Database, tmp_path: Path) -> None:
    assert import_votes(database, written(tmp_path, "arena.json", [ARENA])).new == 1
    (row,) = vote_rows(database)
    assert row["messages"] == [{"role": "user", "content": "Hi?\n[image]"}]
    assert (row["answer_a"], row["answer_b"]) == ("one\n[image]", "two\n[image]")
    assert winners(database) == ["m2"]


def test_a_conversation_as_pythons_text_of_a_list(database: Database, tmp_path: Path) -> None:
    quoted = {name: repr(ARENA[name]).replace('"', '""') for name in ("conversation_a", "conversation_b")}
    content = "model_a,model_b,winner,conversation_a,conversation_b\n" + 'm1,m2,model_a,"{}","{}"\n'.format(
        quoted["conversation_a"], quoted["conversation_b"]
    )
    assert import_votes(database, written(tmp_path, "arena.csv", content)).new == 1
    assert vote_rows(database)[0]["answer_a"] == "one\n[image]"


def test_one_hot_winners_with_lists_of_turns(database: Database, tmp_path: Path) -> None:
    imported = import_votes(database, written(tmp_path, "train.csv", KAGGLE))
    assert (imported.new, [bad.line for bad in imported.bad]) == (3, [5])
    assert winners(database) == ["gpt-4", "tie", "claude"]
    several, single, _ = vote_rows(database)
    assert [message["content"] for message in several["messages"]] == ["Is it?", "Why?"]
    assert (several["answer_a"], single["answer_a"]) == ("", "A 😀 car.")


def test_chosen_and_rejected(database: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "pairs.jsonl", "".join(json.dumps(row) + "\n" for row in ARGILLA))
    assert import_votes(database, path).new == 2
    assert winners(database) == ["zephyr", "alpaca"]
    assert {row["model_a"] for row in vote_rows(database)} == {"alpaca"}  # the sides are unknown
    nameless = written(tmp_path, "hh.jsonl", json.dumps({"prompt": "x", "chosen": "y", "rejected": "z"}))
    assert "chosen_model=YOURS" in import_votes(database, nameless).bad[0].reason


def test_an_id_that_names_tasks(database: Database, tmp_path: Path) -> None:
    options = ImportOptions(columns={"winner": "comparison", "answer_a": "answer1", "answer_b": "answer2"})
    imported = import_votes(database, written(tmp_path, "project-1.csv", LABEL_STUDIO), options)
    assert (imported.new, imported.voters) == (6, 3)
    assert "The id column seems to name prompts: 6 rows share an id and differ (lines 2, 3, 4 have '7')" in " ".join(
        imported.notes
    )


def test_rows_that_share_an_id_and_agree_are_one_vote_unless_ids_are_not_used(
    database: Database, tmp_path: Path
) -> None:
    content = "id,model_a,model_b,winner,prompt\n" + "7,a,b,left,Why?\n" * 3 + "8,a,b,left,Why?\n"
    path = written(tmp_path, "v.csv", content)
    imported = import_votes(database, path)
    assert (imported.new, imported.known) == (2, 2)
    assert "--no-id" in imported.notes[-1]
    other = written(tmp_path, "w.csv", content.replace("Why", "How"))
    assert import_votes(database, other, ImportOptions(use_ids=False)).new == 4


def test_own_words_separators_and_a_blank_model(database: Database, tmp_path: Path) -> None:
    columns = {"model_a": "bot1", "model_b": "bot2", "winner": "better", "prompt": "task", "voter": "PROLIFIC_PID"}
    path = written(tmp_path, "prolific.csv", PROLIFIC)
    imported = import_votes(database, path, ImportOptions(columns=columns))
    assert "map it with --winner 'same=tie'" in imported.bad[0].reason
    assert "the right model has no name" in imported.bad[2].reason
    words = parse_words({"same": "tie", "bot1": "model_a", "bot2": "model_b"})
    imported = import_votes(
        database, written(tmp_path, "again.csv", PROLIFIC + "\n"), ImportOptions(columns=columns, winners=words)
    )
    assert (imported.new, len(imported.bad)) == (2, 1)
    assert winners(database) == ["tie", "new"]


def test_a_column_for_each_annotator(database: Database, tmp_path: Path) -> None:
    columns = {"model_a": "bot1", "model_b": "bot2", "prompt": "task"}
    words = parse_words({"same": "tie", "bot1": "model_a", "bot2": "model_b"})
    options = ImportOptions(columns=columns, winners=words, annotators=("rater_*",))
    imported = import_votes(database, written(tmp_path, "prolific.csv", PROLIFIC), options)
    assert (imported.new, imported.voters, len(imported.bad)) == (3, 2, 1)
    assert [(row["voter"], row["winner"]) for row in vote_rows(database)] == [
        ("rater_1", "model_a"), ("rater_2", "tie"), ("rater_1", "model_b"),
    ]  # fmt: skip


@pytest.mark.parametrize(("scale", "expected"), [("-3..3", ["x", "tie", "y"]), ("3..-3", ["y", "tie", "x"])])
def test_grades(database: Database, tmp_path: Path, scale: str, expected: list[str]) -> None:
    columns = {"winner": "preference_strength", "answer_a": "response_1", "answer_b": "response_2"}
    path = written(tmp_path, "h.json", HELPSTEER)
    refused = import_votes(database, path, ImportOptions(columns=columns))
    assert "--scale 1..5" in refused.bad[0].reason
    assert import_votes(database, path, ImportOptions(columns=columns, scale=parse_scale(scale))).new == 3
    assert winners(database) == expected


@pytest.mark.parametrize("scale", ["", "5", "1..1", "a..b"])
def test_an_invalid_scale_is_refused(scale: str) -> None:
    with pytest.raises(Invalid, match=r"1\.\.5"):
        parse_scale(scale)


@pytest.mark.parametrize(
    ("word", "winner"),
    [
        ("[[A]]", "a"),
        ("[[C]]", "tie"),
        ("[[B>>A]]", "b"),
        ("A > B", "a"),
        ("A=B", "tie"),
        ("B is slightly better", "b"),
    ],
)
def test_words_of_judges(database: Database, tmp_path: Path, word: str, winner: str) -> None:
    path = written(tmp_path, "v.csv", f"model_a,model_b,winner,prompt\na,b,{word},Why?\n")
    assert import_votes(database, path).new == 1
    assert winners(database) == [winner]


TABLE = "model_a,model_b,winner,prompt,answer_a\na,b,left,Où?,€\n"


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TABLE.encode("utf-16"), {}),
        (TABLE.replace(",", "\t").encode(), {}),
        (TABLE.replace(",", ";").encode("utf-8-sig"), {}),
        (TABLE.encode("cp1252"), {"encoding": "cp1252"}),
        (TABLE.replace(",", "#").encode(), {"separator": "#"}),
    ],
)
def test_encodings_and_separators(database: Database, tmp_path: Path, content: bytes, options: Any) -> None:
    assert import_votes(database, written(tmp_path, "v.csv", content), ImportOptions(**options)).new == 1
    assert vote_rows(database)[0]["messages"][0]["content"] == "Où?"
    assert vote_rows(database)[0]["answer_a"] == "€"


@pytest.mark.parametrize(("encoding", "cure"), [("cp1252", "cp1252"), ("utf-16-le", "utf-16")])
@pytest.mark.long
def test_an_encoding_that_is_not_utf8(database: Database, tmp_path: Path, encoding: str, cure: str) -> None:
    with pytest.raises(Invalid, match=f"--encoding {cure}"):
        import_votes(database, written(tmp_path, "v.csv", TABLE.encode(encoding)))


@pytest.mark.parametrize(
    ("date", "is_read"),
    [("2026-01-05", True), ("1767600000000000", True), ("1970-01-01", False), ("2199-01-01", False), ("3", False)],
)
def test_dates(database: Database, tmp_path: Path, date: str, *, is_read: bool) -> None:
    path = written(tmp_path, "v.csv", f"model_a,model_b,winner,prompt,created\na,b,left,Why?,{date}\n")
    imported = import_votes(database, path)
    assert imported.new == is_read
    if not is_read:
        assert "--any-date" in imported.bad[0].reason
        assert import_votes(database, path, ImportOptions(any_date=True)).new == 1


def test_two_thumbs_of_one_chat_are_one_vote(database: Database, tmp_path: Path) -> None:
    def thumb(model: str, rival: str, rating: int, chat: str) -> dict[str, Any]:
        return {
            "id": f"{model}{chat}", "user_id": "u", "type": "rating",
            "data": {"rating": rating, "model_id": model, "sibling_model_ids": [rival]},
            "meta": {"chat_id": chat, "message_id": model, "message_index": 1},
        }  # fmt: skip

    rows = [
        *(thumb("m", "n", 1, "c1"), thumb("n", "m", -1, "c1")),
        *(thumb("m", "n", 1, "c2"), thumb("n", "m", 1, "c2")),
        *(thumb("n", "m", -1, "c3"), thumb("m", "n", -1, "c3")),
    ]
    imported: ImportResult = import_votes(database, written(tmp_path, "feedback.json", rows))
    assert (imported.new, imported.skipped) == (3, {"a second thumb on the same two answers": 3})
    assert winners(database) == ["m", "tie", "both_bad"]
