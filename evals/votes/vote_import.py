"""Import of votes from other tools: each is stored once, and each unreadable row is reported with its line.

A vote without the prompt's text or without answers counts in ratings; it is never shown to a rater and never exported
as a preference. An import that was killed continues when the same file is imported again.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from evals.campaign_tables import CampaignRow, VoteImportRow
from evals.tables import BattleRow
from evals.votes.imports.batches import store_votes
from evals.votes.imports.formats import VotesFile, read_votes_file
from evals.votes.imports.history import finish_undoing
from evals.votes.imports.keys import id_column
from evals.votes.imports.matches import Matches, earlier_import, match
from evals.votes.imports.options import ImportOptions, VoteFormat
from evals.votes.imports.rows import BadRow
from evals.votes.model_names import similar_names
from evals.votes.pair_counters import count_import
from models.database import Database, new_ulid, utcnow
from models.errors import Conflict, NotFound

_DEFAULT = ImportOptions()


class Overlap(Conflict):
    """Votes in the file equal votes of an earlier file; only the user knows whether they are the same votes."""


@dataclass(frozen=True)
class ImportResult:
    """The result of an import: new votes, known ones, known ones with another choice (`changed`), unreadable rows.

    `import_id` is None if nothing was stored. `rows` is the number of the file's rows, `dropped` that of votes that
    were left out because an earlier file had them. `skipped` counts rows that are not votes (a log line of a chat, a
    thumb without an opponent) by their kind.
    """

    import_id: str | None
    format: VoteFormat
    campaign: str
    rows: int
    new: int
    known: int
    dropped: int
    changed: tuple[int, ...]
    skipped: dict[str, int]
    bad: tuple[BadRow, ...]
    models: tuple[str, ...]
    voters: int
    notes: tuple[str, ...]

    @property
    def is_partial(self) -> bool:
        """Whether some rows could not be read."""
        return bool(self.bad)


def import_votes(
    database: Database,
    path: Path,
    options: ImportOptions = _DEFAULT,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ImportResult:
    """Stores the votes of a file, and reports the rows that cannot be read.

    Args:
        report: is called with the numbers of votes stored and to store.

    Raises:
        NotFound: there is no such file or campaign.
        Invalid: it cannot be read, or a required column is missing.
        Overlap: it has votes of an earlier file, and the options do not say what to do with them; nothing was stored.
    """
    _require_campaign(database, options.campaign)
    with _no_garbage_collection():
        return _import(database, path, options, report)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The garbage collector is off meanwhile: it took an eighth of the time, and votes are in no reference cycle."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _import(database: Database, path: Path, options: ImportOptions, report: Callable[[int, int], None]) -> ImportResult:
    read = read_votes_file(path, options)
    finish_undoing(database)
    earlier = earlier_import(database, read.sha256)
    if earlier is not None and earlier.finished is not None:
        return _result(read, options, known=len(read.votes), notes=(_same_file(database, earlier, path),))
    named, id_note = id_column(read.votes) if read.format in ("csv", "jsonl") else (True, None)
    import_id = earlier.id if earlier is not None else None
    found = match(database, read.votes, read.sha256, import_id, by_id=options.use_ids and named)
    if found.overlapping and options.overlap is None:
        raise Overlap(_overlap_question(database, found, read, path), param="overlap")
    votes = (*found.new, *(found.overlapping if options.overlap == "keep" else ()))
    new = 0
    if votes or found.overlapping or import_id is not None:
        import_id = import_id or _begin(database, path, read)
        new = store_votes(
            database, votes, import_id=import_id, campaign=options.campaign, report=lambda n: report(n, len(votes))
        )
        _complete(database, import_id)
    notes = [id_note] if id_note and options.use_ids else []
    if found.repeats:
        notes.append(
            f"{found.repeats} rows repeat an id with the same content and are not counted again; with --no-id they are."
        )
    return _result(
        read,
        options,
        import_id=import_id,
        new=new,
        known=found.known + found.repeats + len(votes) - new,
        dropped=len(found.overlapping) if options.overlap == "drop" else 0,
        changed=found.changed,
        notes=(*notes, *similar_names(database, _models(read))),
    )


def _require_campaign(database: Database, name: str) -> None:
    with database.read() as session:
        if session.get(CampaignRow, name) is None:
            known = ", ".join(session.scalars(select(CampaignRow.name).order_by(CampaignRow.name).limit(8)))
            raise NotFound(f"There is no campaign {name!r}. Campaigns: {known}.", param="campaign")


def _begin(database: Database, path: Path, read: VotesFile) -> str:
    """Stores the import, so that it can be continued, listed and undone from its first batch on."""
    row = VoteImportRow(id=new_ulid(), filename=path.name[:255], sha256=read.sha256, format=read.format)
    with database.write() as session:
        session.add(row)
        return row.id


def _complete(database: Database, import_id: str) -> None:
    count_import(database, import_id)
    with database.write() as session:
        row = session.get_one(VoteImportRow, import_id)
        row.votes = session.scalar(select(func.count()).where(BattleRow.import_id == import_id)) or 0
        row.finished = utcnow()


def _same_file(database: Database, earlier: VoteImportRow, path: Path) -> str:
    name = "" if earlier.filename == path.name else f" as {earlier.filename}"
    return (
        f"This file was imported{name} on {earlier.created:%Y-%m-%d}. To import it in another way, first undo that "
        f"import: parley votes undo {earlier.id}."
    )


def _overlap_question(database: Database, found: Matches, read: VotesFile, path: Path) -> str:
    with database.read() as session:
        rows = session.scalars(select(VoteImportRow).where(VoteImportRow.id.in_([one for one in found.earlier if one])))
        files = sorted(f"{row.filename} ({row.created:%Y-%m-%d})" for row in rows)
    if None in found.earlier:
        files.append("an import by an earlier release")
    return (
        f"{len(found.overlapping)} of the {len(read.votes)} votes in {path.name} equal votes of {', '.join(files)}. If "
        "they are the same votes, leave them out with --overlap drop; if they are different votes, count them with "
        "--overlap keep."
    )


def _models(read: VotesFile) -> tuple[str, ...]:
    return tuple(sorted({name for vote in read.votes for name in (vote.left, vote.right)}))


def _result(
    read: VotesFile, options: ImportOptions, *, notes: tuple[str, ...], known: int, **counts: Any
) -> ImportResult:
    nothing: dict[str, Any] = {"import_id": None, "new": 0, "dropped": 0, "changed": ()}
    return ImportResult(
        **nothing | counts,
        format=read.format,
        campaign=options.campaign,
        rows=read.rows,
        known=known,
        skipped=read.skipped,
        bad=read.bad,
        models=_models(read),
        voters=len({vote.voter for vote in read.votes}),
        notes=(*read.notes, *notes),
    )
