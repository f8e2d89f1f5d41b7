"""Which votes of a file are stored already, by an earlier import or because they were exported from here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from evals.campaign_tables import VoteImportRow
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.imports.keys import PREFIX, KeyMaker, VoteKeys, row_identity
from evals.votes.imports.rows import ImportedVote, mirrored
from models.database import Database

_CHUNK = 1000  # votes in one query
_ULID = 26  # characters of the id of a battle that was shown here


@dataclass(frozen=True)
class Stored:
    """A stored vote that a row may repeat. `choice` is for the models in sorted order."""

    import_id: str | None
    voter: str
    choice: str
    digest: str


@dataclass(frozen=True)
class NewVote:
    """A vote to store, and the id of its battle."""

    vote: ImportedVote
    battle_id: str


@dataclass(frozen=True)
class Matches:
    """A file's votes sorted by what is stored.

    Attributes:
        new: the votes to store.
        known: votes that are stored already, with the lines of those with another choice in `changed`.
        repeats: rows that repeat an id of this file, and count once.
        overlapping: votes equal to a vote of another file, under the id that they get if they are counted too.
        earlier: the ids of the imports that those came from; None for an import by release 0a467a6.
    """

    new: tuple[NewVote, ...]
    known: int
    changed: tuple[int, ...]
    repeats: int
    overlapping: tuple[NewVote, ...]
    earlier: frozenset[str | None]


def earlier_import(database: Database, sha256: str) -> VoteImportRow | None:
    """The latest import of a file with this hash that was not undone."""
    query = select(VoteImportRow).where(VoteImportRow.sha256 == sha256, VoteImportRow.undone.is_(None))
    with database.read() as session:
        return session.scalars(query.order_by(VoteImportRow.id.desc()).limit(1)).first()


def match(
    database: Database, votes: Sequence[ImportedVote], sha256: str, import_id: str | None, *, by_id: bool
) -> Matches:
    """Compares votes with the stored ones.

    Args:
        import_id: an unfinished import of the same file.
        by_id: whether an id names a vote; without it an id still finds the vote that was once stored under it.
    """
    with database.read() as session:
        imported = func.substr(BattleRow.id, 1, len(PREFIX)) == PREFIX
        none_imported = session.scalar(select(BattleRow.id).where(imported).limit(1)) is None
    rows, repeats = _keyed(votes, sha256, by_id=by_id, none_imported=none_imported)
    stored = _stored(database, [row.keys for row in rows], none_imported)
    new, overlapping, changed = [], [], []
    known, earlier, used = 0, set(), set()
    for row in rows:
        found = _by_id(row, stored, used)
        if found is not None:
            known += 1
            changed += [] if found.choice == row.vote.sorted_choice else [row.vote.line]
            continue
        equal = next((stored[key] for key in row.keys.by_row if key in stored), None)
        if row.keys.kept in stored or (equal is not None and import_id is not None and equal.import_id == import_id):
            known += 1
        elif equal is not None:
            overlapping.append(NewVote(row.vote, row.keys.kept))
            earlier.add(equal.import_id)
        else:
            new.append(NewVote(row.vote, _free_key(row, stored)))
    if not new and earlier == {None}:  # the same file, which release 0a467a6 imported without noting its hash
        known, overlapping, earlier = known + len(overlapping), [], set()
    return Matches(tuple(new), known, tuple(changed), repeats, tuple(overlapping), frozenset(earlier))


def _free_key(row: "_Row", stored: Mapping[str, Stored]) -> str:
    """The id to store a new vote under: that of its content where another vote has its id in the other tool."""
    if row.named and (row.keys.by_id[1] not in stored or not row.keys.by_row):
        return row.keys.by_id[1]
    return row.keys.by_row[0]


@dataclass(frozen=True)
class _Row:
    vote: ImportedVote
    keys: VoteKeys
    named: bool


def _keyed(votes: Sequence[ImportedVote], sha256: str, *, by_id: bool, none_imported: bool) -> tuple[list[_Row], int]:
    """The votes with their keys, and how many repeat an id with the same content."""
    maker, repeats = KeyMaker(sha256), 0
    first: dict[tuple[str, ...], ImportedVote] = {}
    rows = []
    for vote in votes:
        named = by_id and vote.id is not None
        if named:
            key = (str(vote.id), *sorted((vote.left, vote.right)))
            named = key not in first  # a log may have an id twice, for different votes
            if not named and row_identity(first[key]) == row_identity(vote):
                repeats += 1
                continue
            first.setdefault(key, vote)
        rows.append(_Row(vote, maker.keys(vote, by_row=not (named and none_imported)), named))
    return rows, repeats


def _by_id(row: _Row, stored: Mapping[str, Stored], used: set[str]) -> Stored | None:
    """The stored vote that this row's id names."""
    if not row.keys.by_id:
        return None
    exported, key = row.keys.by_id
    if exported in stored:
        return stored[exported]
    found = stored.get(key)
    if found is None or key in used or found.voter != row.vote.voter or found.digest not in row.keys.digests:
        return None
    if not row.named and found.choice != row.vote.sorted_choice:
        return None
    used.add(key)
    return found


def _stored(database: Database, keys: Sequence[VoteKeys], none_imported: bool) -> dict[str, Stored]:
    """The stored votes by their battle's id, of all the ids that the rows may have.

    Where no vote was imported, only votes that were cast and exported here may have one of them.
    """
    if none_imported:
        keys = [row for row in keys if row.by_id and len(row.by_id[0]) == _ULID]
    found: dict[str, Stored] = {}
    query = (
        select(BattleRow.id, BattleRow.import_id, BattleRow.voter, BattleRow.flipped, VoteRow.choice, PromptRow.digest)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
    )
    for start in range(0, len(keys), _CHUNK):
        some = keys[start : start + _CHUNK]
        ids = {key for row in some for key in (row.by_id[:1] if none_imported else row.all)}
        with database.read() as session:
            for battle_id, import_id, voter, flipped, choice, digest in session.execute(
                query.where(BattleRow.id.in_(ids))
            ):
                found[battle_id] = Stored(import_id, voter, mirrored(choice) if flipped else choice, digest)
    return found
