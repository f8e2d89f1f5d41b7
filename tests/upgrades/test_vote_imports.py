"""Files of votes that release 0a467a6 imported: their votes are recognised, and importing them again adds nothing.

`0a467a6/imports/` has the files and, in stored.json, the rows that the release stored of them.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, insert

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.imports.options import ImportOptions
from evals.votes.vote_import import Overlap, import_votes
from evals.votes.votes import count_votes
from models.database import Database, UtcDateTime

FILES = Path(__file__).parent / "0a467a6" / "imports"
STORED = json.loads((FILES / "stored.json").read_text("utf-8"))
NAMES = sorted(STORED["new"])


@pytest.fixture
def imported(any_database: Database) -> Database:
    """A database with the votes that the release imported."""
    with any_database.write() as session:
        for table in (PromptRow, PairRow, BattleRow, VoteRow):
            types = {column.name: column.type for column in table.__table__.columns}
            rows = [{k: _value(types[k], v) for k, v in row.items()} for row in STORED["tables"][table.__tablename__]]
            session.execute(insert(table), rows)
    return any_database


def _value(kind: Any, value: Any) -> Any:
    if isinstance(kind, Boolean):
        return bool(value)
    if isinstance(kind, UtcDateTime):
        return datetime.fromisoformat(f"{value}+00:00")
    return json.loads(value) if isinstance(kind, JSON) else value


def test_a_file_that_the_release_imported_adds_nothing(imported: Database) -> None:
    before = count_votes(imported)
    assert before == sum(STORED["new"].values())
    for name in NAMES:
        if name == "shared-ids.csv":
            continue
        options = ImportOptions(each_its_own_prompt=name.startswith("without"))
        again = import_votes(imported, FILES / name, options)
        assert (name, again.new, again.changed) == (name, 0, ())
        assert again.known > 0
    assert count_votes(imported) == before


@pytest.mark.long
def test_rows_that_the_release_dropped_for_their_id_are_stored_now(imported: Database) -> None:
    found = import_votes(imported, FILES / "shared-ids.csv")
    assert (found.new, found.known, found.changed) == (2, 2, ())
    assert "seems to name prompts" in found.notes[-1]


@pytest.mark.long
def test_a_file_with_more_rows_than_the_release_imported_is_a_question(imported: Database, tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text((FILES / "plain.csv").read_text("utf-8") + "new,old,tie,Open on Sunday?,No.,Nope.,ann,,\n")
    with pytest.raises(Overlap, match=r"4 of the 5 votes in plain.csv .*--overlap drop"):
        import_votes(imported, path)
    assert import_votes(imported, path, ImportOptions(overlap="drop")).new == 1
