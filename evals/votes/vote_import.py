"""Import of votes from other tools: each is stored once, and each unreadable row is reported with its line.

`import_formats` reads the file. A vote without the prompt's text or without answers counts in ratings; it is never
shown to a rater and never exported as a preference.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow, insert_once
from evals.votes.import_formats import VoteFormat, read_votes_file
from evals.votes.import_rows import BadRow, ImportedVote
from evals.votes.prompts import IMPORTED
from models.database import Database, utcnow

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, as ULIDs are written


@dataclass(frozen=True)
class ImportResult:
    """The result of an import: new votes, known ones, known ones with another choice (`changed`), unreadable rows.

    `skipped` counts rows that are not votes (a log line of a chat, a thumb without an opponent) by their kind.
    """

    format: VoteFormat
    new: int
    known: int
    changed: tuple[int, ...]
    skipped: dict[str, int]
    bad: tuple[BadRow, ...]
    models: tuple[str, ...]
    voters: int
    notes: tuple[str, ...]


def import_votes(
    database: Database,
    path: Path,
    *,
    form: VoteFormat | None = None,
    columns: dict[str, str] | None = None,
    each_its_own_prompt: bool = False,
) -> ImportResult:
    """Stores the votes of a file, and reports the rows that cannot be read.

    Args:
        form: csv, jsonl, fastchat or openwebui; detected by default.
        columns: our name for a column → the file's, for CSV and JSONL.
        each_its_own_prompt: treat each vote as a prompt of its own, if the file has no prompts.

    Raises:
        NotFound: there is no such file.
        Invalid: it cannot be read, or a required column is missing.
    """
    read = read_votes_file(path, form=form, columns=columns or {}, each_its_own_prompt=each_its_own_prompt)
    new = known = 0
    changed = []
    seen: Counter[str] = Counter()
    with database.write() as session:
        for vote in read.votes:
            identity = _identity(vote)
            if vote.id is None:  # a row twice in one file is two votes; the same file twice is not
                seen[identity] += 1
                identity = f"{identity}#{seen[identity]}"
            stored = _store(session, vote, "imported-" + _digest(identity))
            if stored is None:
                new += 1
            else:
                known += 1
                changed += [] if stored == vote.sorted_choice else [vote.line]
    return ImportResult(
        format=read.format,
        new=new,
        known=known,
        changed=tuple(changed),
        skipped=read.skipped,
        bad=read.bad,
        models=tuple(sorted({name for vote in read.votes for name in (vote.left, vote.right)})),
        voters=len({vote.voter for vote in read.votes}),
        notes=read.notes,
    )


def _identity(vote: ImportedVote) -> str:
    """The identity of a vote across imports: its own id, or else its whole content."""
    if vote.id is not None:
        return json.dumps(["id", vote.id, sorted((vote.left, vote.right))])
    return json.dumps(
        ["row", vote.left, vote.right, vote.left_answer, vote.right_answer, _content(vote), vote.voter, vote.choice,
         vote.when.isoformat() if vote.when else None]
    )  # fmt: skip


def _content(vote: ImportedVote) -> list[dict[str, str]]:
    return list(vote.messages) or [{"role": "user", "content": f"[{vote.prompt}]"}]


def _store(session: Session, vote: ImportedVote, battle_id: str) -> str | None:
    """Stores a vote; returns the stored choice, for the models in sorted order, if it was stored before."""
    # A vote that was exported from here keeps its id.
    known = session.get(VoteRow, battle_id) or (session.get(VoteRow, vote.id) if vote.id else None)
    if known is not None:
        flipped = session.get_one(BattleRow, known.battle_id).flipped
        return known.choice if not flipped else {"left": "right", "right": "left"}.get(known.choice, known.choice)
    prompt = _prompt(session, vote)
    flipped = vote.left > vote.right
    sides = [(vote.left, vote.left_answer), (vote.right, vote.right_answer)]
    (model_1, answer_1), (model_2, answer_2) = sides[::-1] if flipped else sides
    pair_id = _as_ulid(json.dumps([prompt.id, model_1, model_2, answer_1, answer_2]))
    insert_once(
        session,
        PairRow(
            id=pair_id, prompt_id=prompt.id, model_1=model_1, model_2=model_2, answer_1=answer_1, answer_2=answer_2
        ),
    )
    showings = select(func.count()).select_from(BattleRow)
    showing = session.scalar(showings.where(BattleRow.pair_id == pair_id, BattleRow.voter == vote.voter)) or 0
    session.add(
        BattleRow(id=battle_id, pair_id=pair_id, voter=vote.voter, showing=showing, flipped=flipped, again=vote.again)
    )
    session.flush()
    when = vote.when or utcnow()
    session.add(VoteRow(battle_id=battle_id, voter=vote.voter, choice=vote.choice, created=when))
    session.flush()
    return None


def _prompt(session: Session, vote: ImportedVote) -> PromptRow:
    messages = _content(vote)
    digest = hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode()).hexdigest()
    row = PromptRow(
        id=_as_ulid(digest),
        digest=digest,
        messages=messages,
        category=vote.category,
        topics=[],
        held_out=False,
        source=IMPORTED,
    )
    insert_once(session, row)
    return session.scalars(select(PromptRow).where(PromptRow.digest == digest)).one()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:48]


def _as_ulid(text: str) -> str:
    """26 characters derived from the content, in the alphabet of ULIDs."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(26)))
