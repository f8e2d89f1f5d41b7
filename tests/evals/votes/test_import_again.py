"""Files that are imported again, overlap, are killed or undone; voters left out; and one model under two names."""

import json
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from evals.campaign_tables import OPEN_CAMPAIGN, CampaignPairRow
from evals.ratings.leaderboard import leaderboard
from evals.tables import JudgmentRow, PairRow
from evals.votes.imports import batches
from evals.votes.imports.history import list_imports, undo_import
from evals.votes.imports.options import ImportOptions
from evals.votes.model_names import merge_model
from evals.votes.preference_pairs import preferences
from evals.votes.prompts import prompts
from evals.votes.vote_export import VoteExport, export_votes, vote_rows
from evals.votes.vote_import import Overlap, import_votes
from evals.votes.voters import exclude_voter, excluded_voters, include_voter
from evals.votes.votes import count_votes, read_votes
from models.database import Database, new_ulid
from models.errors import Conflict, NotFound

HEADER = "model_a,model_b,winner,prompt,answer_a,answer_b,voter\n"
ROWS = [f"a,b,{winner},Question {i}?,one,two,{voter}\n" for i, (winner, voter) in enumerate(
    [("left", "ann"), ("left", "bob"), ("right", "ann"), ("tie", "cem")]
)]  # fmt: skip


def table(path: Path, rows: list[str], header: str = HEADER) -> Path:
    path.write_text(header + "".join(rows), "utf-8")
    return path


def test_the_same_bytes_under_another_name(any_database: Database, tmp_path: Path) -> None:
    import_votes(any_database, table(tmp_path / "one.csv", ROWS))
    imported = import_votes(any_database, table(tmp_path / "two.csv", ROWS))
    assert (imported.new, imported.known, imported.import_id) == (0, 4, None)
    assert "imported as one.csv" in imported.notes[-1]
    bare = ["a,b,left\n"] * 3
    options = ImportOptions(each_its_own_prompt=True)
    assert import_votes(any_database, table(tmp_path / "x.csv", bare, "model_a,model_b,winner\n"), options).new == 3
    assert import_votes(any_database, table(tmp_path / "y.csv", bare, "model_a,model_b,winner\n"), options).new == 0


@pytest.mark.parametrize(("overlap", "new", "dropped"), [("keep", 4, 0), ("drop", 2, 2)])
def test_a_file_that_overlaps_an_earlier_one(
    any_database: Database, tmp_path: Path, overlap, new: int, dropped: int
) -> None:
    import_votes(any_database, table(tmp_path / "march.csv", ROWS[:3]))
    path = table(tmp_path / "april.csv", [*ROWS[1:], ROWS[3]])
    with pytest.raises(Overlap, match=r"2 of the 4 votes in april.csv equal votes of march.csv .*--overlap keep"):
        import_votes(any_database, path)
    assert count_votes(any_database) == 3
    imported = import_votes(any_database, path, ImportOptions(overlap=overlap))
    assert (imported.new, imported.dropped) == (new, dropped)
    assert import_votes(any_database, path).new == 0
    assert count_votes(any_database) == 3 + new


def test_a_killed_import_continues(any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BATCH", 2)
    path = table(tmp_path / "v.csv", [*ROWS, *ROWS])

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_votes(any_database, path, report=killed)
    (stopped,) = list_imports(any_database)
    assert (stopped.complete, stopped.votes) == (False, 2)
    imported = import_votes(any_database, path)
    assert (imported.new, imported.known, imported.import_id) == (6, 2, stopped.id)
    (finished,) = list_imports(any_database)
    assert (finished.complete, finished.votes) == (True, 8)
    assert import_votes(any_database, path).new == 0


def test_two_imports_at_once(any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BATCH", 10)
    paths = [
        table(tmp_path / f"{name}.csv", 40 * [f"a,b,{winner},Same?,1,2,unknown\n", f"a,b,tie,{name}?,1,2,ann\n"])
        for name, winner in (("one", "left"), ("two", "right"))
    ]  # fmt: skip
    threads = [threading.Thread(target=import_votes, args=(any_database, path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_votes(any_database) == 160
    assert len([row for row in vote_rows(any_database) if row["voter"] == "unknown"]) == 80


def test_an_import_is_undone(any_database: Database, tmp_path: Path) -> None:
    path = table(tmp_path / "v.csv", ROWS)
    first = import_votes(any_database, path).import_id
    assert first is not None
    kept = import_votes(any_database, table(tmp_path / "w.csv", ["a,b,left,Other?,one,two,ann\n"])).import_id
    assert undo_import(any_database, first) == 4
    assert count_votes(any_database) == 1
    assert len(prompts(any_database, typed=True)) == 1
    with any_database.read() as session:
        assert session.query(PairRow).count() == 1
    with pytest.raises(Conflict, match="was already undone"):
        undo_import(any_database, first)
    with pytest.raises(NotFound, match="parley votes imports"):
        undo_import(any_database, "nothing")
    assert [(item.id, bool(item.undone), item.votes) for item in list_imports(any_database)] == [
        (first, True, 4), (kept, False, 1),
    ]  # fmt: skip
    assert import_votes(any_database, path).new == 4


def test_an_excluded_voter_counts_nowhere(any_database: Database, tmp_path: Path) -> None:
    import_votes(any_database, table(tmp_path / "v.csv", ROWS))
    assert exclude_voter(any_database, "ann", "clicked at random") == 2
    assert len(read_votes(any_database)) == 2
    assert {row["voters"][0] for row in preferences(any_database)} == {"bob"}
    assert sum(row.votes for row in leaderboard(any_database).rows) == 4  # two votes, each on two models
    assert [row["excluded"] for row in vote_rows(any_database)] == [True, False, True, False]
    assert [(voter.voter, voter.votes, voter.reason) for voter in excluded_voters(any_database)] == [
        ("ann", 2, "clicked at random")
    ]
    with pytest.raises(Conflict):
        exclude_voter(any_database, "ann")
    with pytest.raises(NotFound):
        exclude_voter(any_database, "nobody")
    assert include_voter(any_database, "ann") == 2
    assert len(read_votes(any_database)) == 4


def test_names_that_were_compared_are_not_hinted_at(database: Database, tmp_path: Path) -> None:
    imported = import_votes(database, table(tmp_path / "v.csv", ["A,a,left,Why?,x,y,ann\n"]))
    assert not [note for note in imported.notes if "one model" in note]
    with pytest.raises(Conflict, match="different models"):
        merge_model(database, "A", "a")


def test_two_names_of_a_model_become_one(any_database: Database, tmp_path: Path) -> None:
    rows = ["A,b,left,Why?,from A,from b,ann\n", "zeta,b,left,Why?,from zeta,from b,ann\n", "b,c,left,Why?,x,y,ann\n"]
    imported = import_votes(any_database, table(tmp_path / "v.csv", rows))
    assert not [note for note in imported.notes if "one model" in note]
    imported = import_votes(any_database, table(tmp_path / "w.csv", ["a,b,right,Why?,from a,from b,bob\n"]))
    assert "\"A\" and \"a\" may be one model: if so, merge them with `parley votes merge 'a' 'A'`." in imported.notes
    before = read_votes(any_database).between("b", "zeta").score.tolist()
    with any_database.write() as session:
        (pair,) = session.query(PairRow).filter_by(model_2="zeta")
        for shown, verdict in (("12", 2), ("21", 1)):
            session.add(
                JudgmentRow(id=new_ulid(), pair_id=pair.id, judge="j", rubric_hash="r", shown=shown, verdict=verdict,
                            expected=0.2, scores={"1": {"x": 1}, "2": {"x": 5}}, raw="")
            )  # fmt: skip
    assert merge_model(any_database, "zeta", "A") == 1  # the pair's models change places
    assert merge_model(any_database, "a", "A") == 1
    votes = read_votes(any_database)
    assert votes.models == ("A", "b", "c")
    assert sorted(votes.between("A", "b").score.tolist()) == [0.0, 1.0, 1.0]
    assert before == [0.0]
    answers = {(row["winner"], row["answer_a"], row["answer_b"]) for row in vote_rows(any_database)}
    assert ("model_a", "from zeta", "from b") in answers
    with any_database.read() as session:
        judged = {row.shown: row for row in session.query(JudgmentRow)}
    assert {shown: row.verdict for shown, row in judged.items()} == {"21": 1, "12": 2}
    assert {row.expected for row in judged.values()} == {0.8}
    assert judged["12"].scores == {"1": {"x": 5}, "2": {"x": 1}}
    with pytest.raises(Conflict, match="different models"):
        merge_model(any_database, "A", "b")
    with pytest.raises(NotFound):
        merge_model(any_database, "nobody", "A")


def test_exports_of_a_campaign_and_for_openai(database: Database, tmp_path: Path) -> None:
    import_votes(database, table(tmp_path / "v.csv", ROWS))
    path = tmp_path / "dpo.jsonl"
    assert export_votes(database, path, VoteExport("openai")) == 3
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    (row,) = [row for row in rows if row["input"]["messages"] == [{"role": "user", "content": "Question 0?"}]]
    assert row["preferred_output"] == [{"role": "assistant", "content": "one"}]
    assert row["non_preferred_output"] == [{"role": "assistant", "content": "two"}]
    assert export_votes(database, tmp_path / "v.parquet", VoteExport(campaign="open")) == 4
    with pytest.raises(NotFound, match="no campaign 'spring'"):
        export_votes(database, path, VoteExport(campaign="spring"))
    with pytest.raises(ValueError, match="jsonl"):
        export_votes(database, tmp_path / "dpo.csv", VoteExport("openai"))
    assert {"campaign", "link", "probability", "skip_reason"} <= vote_rows(database)[0].keys()


def test_imported_votes_count_where_their_pair_is_shown(any_database: Database, tmp_path: Path) -> None:
    """A rater is then shown what has fewer votes."""
    import_votes(any_database, table(tmp_path / "first.csv", ROWS[:1]))
    with any_database.write() as session:
        prompt_id, pair_id = session.execute(select(PairRow.prompt_id, PairRow.id)).one()
        cell = {"campaign": OPEN_CAMPAIGN, "model_1": "a", "model_2": "b", "prompt_id": prompt_id}
        session.add(CampaignPairRow(**cell, sample=0, shown=1, voted=1, points=1.0))
        session.add(CampaignPairRow(**cell, sample=1, pair_id=pair_id, shown=0))
    other = [f"b,a,left,Question 0?,{answers},{voter}\n" for answers, voter in [("x,y", "bob"), ("two,one", "cem")]]
    imported = import_votes(any_database, table(tmp_path / "second.csv", [*other, ROWS[1]]))

    def counters() -> list[tuple[int, float]]:
        with any_database.read() as session:
            query = select(CampaignPairRow).order_by(CampaignPairRow.sample)
            return [(cell.voted, cell.points) for cell in session.scalars(query)]

    assert counters() == [(1, 0.0), (2, 1.0)]
    undo_import(any_database, str(imported.import_id))
    assert counters() == [(0, 0.0), (1, 1.0)]
