"""Votes from CSV, JSONL, FastChat and Open WebUI: each once, bad rows by line; out again and back in, unchanged."""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from evals.campaigns.ballots import cast_vote
from evals.ratings.leaderboard import leaderboard
from evals.votes.imports.options import ImportOptions
from evals.votes.preference_pairs import export_preferences, preferences
from evals.votes.prompts import add_prompts, prompts
from evals.votes.vote_export import vote_rows, write_rows
from evals.votes.vote_import import ImportResult, import_votes
from evals.votes.votes import read_votes
from models.database import Database, open_database, upgrade
from models.errors import Invalid, NotFound, ParleyError
from models.settings.settings import load_settings
from tests.evals.battles import next_battle
from tests.evals.scripted import echo


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def again(database: Database, path: Path, **options: Any) -> ImportResult:
    """Imports twice; nothing may be new the second time. The first time's report."""
    first, second = (import_votes(database, path, ImportOptions(**options)) for _ in range(2))
    assert (second.new, second.known) == (0, first.new + first.known)
    assert second.changed == ()
    return first


CSV = """model_a,model_b,winner,prompt,answer_a,answer_b,voter,category
new,old,model_a,Where is my parcel?,In the post.,I cannot say.,ann,orders
old,new,b,Where is my parcel?,I cannot say.,In the post.,bob,orders
new,old,tie,May I return it?,Yes.,Yes!,ann,returns
new,old,both_bad,May I swap it?,No.,Ask.,ann,returns
new,new,left,Who?,a,b,ann,
new,old,perhaps,Who?,a,b,ann,
new,old
new,old,,Who?,a,b,ann,
"""


def test_csv(any_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(CSV)
    imported = again(any_database, path)
    assert (imported.format, imported.new, imported.voters, imported.models) == ("csv", 4, 2, ("new", "old"))
    assert [bad.line for bad in imported.bad] == [6, 7, 8, 9]
    assert [bad.reason.split(" ")[0] for bad in imported.bad] == ["both", "the", "it", "it"]
    votes = read_votes(any_database)
    assert sorted(votes.score.tolist()) == [0.5, 0.5, 1.0, 1.0]
    assert votes.both_bad is not None
    assert votes.both_bad.sum() == 1
    assert {row["chosen"][0]["content"] for row in preferences(any_database)} == {"In the post."}
    assert prompts(any_database) == []  # prompts from imported votes are not shown to raters
    assert add_prompts(any_database, [{"prompt": "May I return it?"}], "mine") == 1


def test_columns_of_another_name_and_a_column_that_is_missing(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("x,y,best,task_id,who\nnew,old,new,q1,ann\nnew,old,old,q2,ann\nnew,old,new,q1,bob\n")
    with pytest.raises(Invalid, match="no column model_a"):
        import_votes(database, path)
    columns = {"model_a": "x", "model_b": "y", "winner": "best"}
    with pytest.raises(Invalid, match="each-its-own-prompt"):
        import_votes(database, path, ImportOptions(columns=columns))
    with pytest.raises(Invalid, match="no column 'nobody'"):
        import_votes(database, path, ImportOptions(columns=columns | {"voter": "nobody"}))
    with pytest.raises(Invalid, match="'colour' is not a column"):
        import_votes(database, path, ImportOptions(columns={"colour": "x"}))
    imported = again(database, path, columns=columns | {"prompt": "task_id", "voter": "who"})
    assert (imported.new, imported.voters) == (3, 2)
    assert "ratings only" in imported.notes[0]
    assert len(set(read_votes(database).prompt)) == 2
    assert preferences(database) == []


def test_no_prompts_and_no_voters(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text("model_a,model_b,winner\n" + "a,b,left\n" * 5)
    imported = again(database, path, each_its_own_prompt=True)
    assert imported.new == 5
    assert "one person's" in imported.notes[0]
    assert len(set(read_votes(database).prompt)) == 5


def test_jsonl_with_an_invalid_line(database: Database, tmp_path: Path) -> None:
    good = {"model_a": "a", "model_b": "b", "winner": "a", "messages": [{"role": "user", "content": "Why?"}]}
    path = lines(
        tmp_path / "votes.jsonl",
        [
            good,
            "{no json",
            [1],
            good | {"messages": "["},
            good | {"created": "soon"},
            good | {"prompt": "x\ud800"},
            good | {"messages": [], "prompt": "  "},
            good | {"winner": "right", "created": 1_760_000_000_000},
        ],
    )
    imported = again(database, path)
    assert imported.new == 2
    assert [bad.line for bad in imported.bad] == [2, 3, 4, 5, 6, 7]
    assert vote_rows(database)[0]["created"].startswith("2025-10-09")


def fastchat(kind: str, text: str = "Hello", ip: str = "10.0.0.1", conv: str = "c", **more: Any) -> dict[str, Any]:
    states = [
        {"template_name": "one_shot", "offset": 0, "conv_id": f"{conv}{i}", "model_name": model,
         "messages": [["Human", text], ["Assistant", f"{model} says hi"]]}
        for i, model in enumerate(("vicuna", "alpaca"))
    ]  # fmt: skip
    return {"tstamp": 1_690_000_000.5, "type": kind, "models": ["", ""], "states": states, "ip": ip} | more


def test_fastchat_log(any_database: Database, tmp_path: Path) -> None:
    several = fastchat("rightvote", conv="m")
    for state in several["states"]:
        state["messages"] += [["Human", "And?"], ["Assistant", f"{state['model_name']} goes on"]]
    named = fastchat("leftvote", conv="n", models=["### Model A: gpt", "### Model B: bard"])
    for state in named["states"]:
        del state["model_name"]
    path = lines(
        tmp_path / "2026-01-01-conv.json",
        [
            {"type": "chat", "tstamp": 1.0},
            fastchat("leftvote"),
            fastchat("bothbad_vote", ip="10.0.0.2", conv="d"),
            several,
            named,
            {"type": "leftvote", "tstamp": 1.0},
            fastchat("leftvote"),
        ],
    )
    imported = import_votes(any_database, path)
    assert (imported.format, imported.new, imported.known) == ("fastchat", 4, 1)  # the last line repeats a vote
    assert import_votes(any_database, path).new == 0
    assert imported.skipped == {"a log line of type 'chat'": 1}
    assert [bad.line for bad in imported.bad] == [6]
    assert imported.models == ("alpaca", "bard", "gpt", "vicuna")
    assert not any("10.0.0" in row["voter"] for row in vote_rows(any_database))
    assert sorted(row["chosen_model"] for row in preferences(any_database)) == ["gpt", "vicuna"]
    turns = [row for row in vote_rows(any_database) if len(row["messages"]) == 2]
    assert (turns[0]["winner"], turns[0]["answer_a"]) == ("model_b", "")


def test_fastchat_battles_and_mt_bench_votes(database: Database, tmp_path: Path) -> None:
    def turns(model: str) -> list[dict[str, str]]:
        first = [{"role": "user", "content": "Plan a trip."}, {"role": "assistant", "content": f"{model}: go"}]
        return [*first, {"role": "user", "content": "Shorter."}, {"role": "assistant", "content": f"{model}: ok"}]

    battle = {"question_id": 81, "model_a": "x", "model_b": "a", "winner": "model_a", "judge": "expert_1", "turn": 1,
              "conversation_a": turns("x"), "conversation_b": turns("a")}  # fmt: skip
    path = tmp_path / "battles.json"
    rows = [
        battle,
        battle | {"turn": 2, "winner": "tie (bothbad)"},
        battle | {"judge": ["gpt4", "v1"], "winner": "tie"},
    ]
    path.write_text(json.dumps([*rows, battle | {"winner": "model_c"}]))
    imported = again(database, path)
    assert (imported.format, imported.new, imported.voters) == ("fastchat", 3, 2)
    assert [bad.line for bad in imported.bad] == [4]
    (pair,) = preferences(database)
    assert (pair["chosen"][0]["content"], pair["voters"]) == ("x: go", ["expert_1", "gpt4"])
    assert len(set(read_votes(database).prompt)) == 2  # a turn is a prompt of its own


def feedback(rating: Any, rivals: list[str] | None, identity: str = "f1") -> dict[str, Any]:
    nodes = {
        "u": {"id": "u", "parentId": None, "role": "user", "content": "Cheapest plan?"},
        "m1": {"id": "m1", "parentId": "u", "role": "assistant", "model": "mine", "content": "The small one."},
        "m2": {"id": "m2", "parentId": "u", "role": "assistant", "model": "theirs", "content": "It depends."},
    }
    return {
        "id": identity, "user_id": "u-7", "version": 0, "type": "rating", "created_at": 1_750_000_000,
        "updated_at": 1_750_000_000, "user": {"name": "Ann"},
        "data": {"rating": rating, "model_id": "mine", "sibling_model_ids": rivals, "reason": "", "tags": ["plans"]},
        "meta": {"arena": False, "chat_id": "c1", "message_id": "m1", "message_index": 1},
        "snapshot": {"chat": {"id": "c1", "chat": {"history": {"messages": nodes, "currentId": "m1"}}}},
    }  # fmt: skip


def test_open_webui(any_database: Database, tmp_path: Path) -> None:
    path = tmp_path / "feedback-history-export.json"
    rows = [feedback(1, ["theirs"]), feedback("-1", ["theirs", "third"], "f2"), feedback(1, None, "f3")]
    path.write_text(json.dumps([*rows, feedback(None, ["theirs"], "f4"), feedback(1, ["theirs"], "f5") | {"data": 3}]))
    imported = again(any_database, path)
    assert (imported.format, imported.new, imported.voters) == ("openwebui", 3, 1)
    assert sum(imported.skipped.values()) == 3
    stored = {(row["model_b"], row["winner"]): row for row in vote_rows(any_database)}
    assert set(stored) == {("theirs", "model_a"), ("theirs", "model_b"), ("third", "model_b")}
    assert stored["theirs", "model_a"]["messages"] == [{"role": "user", "content": "Cheapest plan?"}]
    assert stored["theirs", "model_a"]["answer_b"] == "It depends."
    assert stored["third", "model_b"]["answer_a"] == ""  # one answer without the other does not count
    path.write_text(json.dumps([feedback(-1, ["theirs"])]))
    assert import_votes(any_database, path).changed == (1,)  # the first vote stays, the second is reported


def test_raters_are_not_shown_a_pair_without_answers(database: Database, tmp_path: Path) -> None:
    add_prompts(database, [{"prompt": "Open?"}], "mine")
    path = lines(tmp_path / "v.jsonl", [{"model_a": "one", "model_b": "two", "winner": "left", "prompt": "Open?"}])
    import_votes(database, path)
    shown = asyncio.run(next_battle(database, "ann", echo("one", "two"), ["one", "two"]))
    assert shown.left
    assert shown.right


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("none.csv", None, NotFound), ("bad.json", b"[1,", Invalid), ("latin.csv", b"\xff\xfe", Invalid)],
)
def test_a_file_that_cannot_be_read(database: Database, tmp_path: Path, name: str, content, error) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error) as raised:
        import_votes(database, tmp_path / name)
    assert isinstance(raised.value, ParleyError)
    assert "\n" not in str(raised.value)


@pytest.mark.long
@pytest.mark.parametrize("name", ["votes.csv", "votes.jsonl"])
def test_exported_votes_can_be_imported(database: Database, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source.csv"
    source.write_text("\n".join(CSV.splitlines()[:5]) + "\n")
    import_votes(database, source)
    add_prompts(database, [{"prompt": "Ours?", "category": "own"}], "mine")
    shown = asyncio.run(next_battle(database, "cem", echo("new", "old"), ["new", "old"]))
    cast_vote(database, shown.id, "cem", "left")
    before, path = vote_rows(database), tmp_path / name
    assert write_rows(before, path) == 5
    here = import_votes(database, path, ImportOptions(form=None if name.endswith("csv") else "jsonl"))
    assert (here.new, here.known, here.bad, here.changed) == (0, 5, (), ())
    elsewhere = load_settings(home=tmp_path / "elsewhere")
    upgrade(elsewhere)
    other = open_database(elsewhere)
    assert again(other, path, form="csv" if name.endswith("csv") else "jsonl").new == 5
    strip = ("model_a", "model_b", "winner", "voter", "category", "messages", "answer_a", "answer_b")
    assert [{k: row[k] for k in strip} for row in vote_rows(other)] == [{k: row[k] for k in strip} for row in before]
    assert leaderboard(other).rows[0].model == leaderboard(database).rows[0].model
    other.dispose()


def test_parquet_and_a_folder_for_datasets(database: Database, tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    source.write_text(CSV)
    import_votes(database, source)
    write_rows(vote_rows(database), tmp_path / "v.parquet")
    write_rows(vote_rows(database), tmp_path / "folder")
    cache = str(tmp_path / "cache")
    from datasets import load_dataset  # two seconds

    loaded = load_dataset(str(tmp_path / "folder"), split="train", cache_dir=cache)
    assert loaded.num_rows == 4
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["README.md", "train.parquet"]
    assert loaded[0]["messages"] == [{"role": "user", "content": "Where is my parcel?"}]
    assert export_preferences(database, tmp_path / "pairs") == 1
    pairs = load_dataset(str(tmp_path / "pairs"), split="train", cache_dir=cache)
    assert {"prompt", "chosen", "rejected", "margin", "voters"} <= set(pairs.column_names)
    with pytest.raises(Invalid, match="exists already"):
        write_rows(vote_rows(database), tmp_path / "folder")
    with pytest.raises(Invalid, match="is unknown"):
        write_rows(vote_rows(database), tmp_path / "votes.xlsx")
    with (tmp_path / "v.csv").open("w") as file:
        csv.writer(file).writerow(["model_a"])
    with pytest.raises(Invalid, match="no column model_b"):
        import_votes(database, tmp_path / "v.csv")
