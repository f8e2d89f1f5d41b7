"""A file of votes: its format, its votes, and which of its rows are not votes or cannot be read."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evals.votes.imports.annotation_tools import argilla_rows, is_argilla, is_label_studio, label_studio_rows
from evals.votes.imports.choices import ONE_HOT
from evals.votes.imports.fastchat import from_fastchat_battle, from_fastchat_log
from evals.votes.imports.openwebui import from_openwebui, merge_thumbs
from evals.votes.imports.options import COLUMNS, ImportOptions, VoteFormat
from evals.votes.imports.rows import UNKNOWN_VOTER, BadRow, ImportedVote, NotAVote, RowError
from evals.votes.imports.tables import Table, from_row
from evals.votes.imports.text import csv_rows, decode, is_table, json_rows, read_bytes, read_header
from models.database import utcnow
from models.errors import Invalid

_EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)  # nobody compared chat models before; such a date is probably misread


@dataclass(frozen=True)
class VotesFile:
    """A file's votes and its SHA-256. `skipped` counts rows that are not votes by their kind; `notes` are sentences."""

    format: VoteFormat
    sha256: str
    rows: int
    votes: tuple[ImportedVote, ...]
    skipped: dict[str, int]
    bad: tuple[BadRow, ...]
    notes: tuple[str, ...]


def read_votes_file(path: Path, options: ImportOptions) -> VotesFile:
    """Reads a file of votes.

    Raises:
        NotFound: there is no such file.
        Invalid: it is not text, its format is unknown, or a required column is missing.
    """
    data = read_bytes(path)
    text = decode(data, path.name, options.encoding)
    table = Table(options, path.name)
    rows = list(_csv_rows(path, text, table) if _is_csv(path, text, options) else json_rows(text))
    if not rows:
        raise Invalid(f"{path.name} has no rows.", param="file")
    kind = options.form or _kind(path, text, [row for _, row in rows if isinstance(row, Mapping)])
    if kind == "labelstudio":
        rows = list(label_studio_rows(rows, table))
    elif kind == "argilla":
        rows = list(argilla_rows(rows, table))
    votes: list[ImportedVote] = []
    skipped: Counter[str] = Counter()
    bad: list[BadRow] = []
    latest = utcnow() + timedelta(days=1)
    for line, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise row if isinstance(row, RowError | NotAVote) else RowError("it is not a JSON object")
            found = _votes(kind, row, line, table)
            if not options.any_date:
                _check_dates(found, latest)
            votes += found
        except RowError as error:
            bad.append(BadRow(line, str(error)))
        except NotAVote as what:
            skipped[str(what)] += 1
    if kind == "openwebui":
        thumbs, votes = len(votes), merge_thumbs(votes)
        if merged := thumbs - len(votes):
            skipped["a second thumb on the same two answers"] = merged
    digest = hashlib.sha256(data).hexdigest()
    return VotesFile(kind, digest, len(rows), tuple(votes), dict(skipped), tuple(bad), _notes(votes))


def _votes(kind: VoteFormat, row: Mapping[str, Any], line: int, table: Table) -> list[ImportedVote]:
    match kind:
        case "openwebui":
            return from_openwebui(row, line)
        case "fastchat" if "type" in row:
            return [from_fastchat_log(row, line)]
        case "fastchat":
            return [from_fastchat_battle(row, line, table.names)]
        case "csv" if "conversation_a" in row and not table.options.columns:
            return [from_fastchat_battle(row, line, table.names)]
        case _:
            return from_row(row, line, table)


def _check_dates(votes: list[ImportedVote], latest: datetime) -> None:
    for vote in votes:
        if vote.when is not None and not _EARLIEST <= vote.when <= latest:
            raise RowError(
                f"the date {vote.when:%Y-%m-%d} is before 2015 or after tomorrow: correct it, or use --any-date"
            )


def _notes(votes: list[ImportedVote]) -> tuple[str, ...]:
    notes = []
    if votes and (unnamed := sum(vote.voter == UNKNOWN_VOTER for vote in votes)):
        notes.append(f"{unnamed} votes have no voter and count as one person's: a verdict averages them by prompt.")
    if textless := sum(not vote.messages or not (vote.left_answer and vote.right_answer) for vote in votes):
        notes.append(f"{textless} votes have no prompt text or lack an answer: they count in ratings only.")
    return tuple(notes)


def _is_csv(path: Path, text: str, options: ImportOptions) -> bool:
    return options.form == "csv" or (options.form is None and is_table(path, text))


def _csv_rows(path: Path, text: str, table: Table) -> Iterator[tuple[int, Mapping[str, Any] | RowError]]:
    options = table.options
    known = {*(alias for aliases in COLUMNS.values() for alias in aliases), *options.columns.values(), *ONE_HOT}
    header = read_header(path, text, options.separator, known.__contains__)
    _check_header(path, header.columns, table)
    return csv_rows(text, header)


def _check_header(path: Path, header: tuple[str, ...], table: Table) -> None:
    for name, column in table.options.columns.items():
        if column not in header:
            raise Invalid(f"{path.name} has no column {column!r} for {name}.", param="columns")
    if table.options.annotators and not table.annotators(header):
        raise Invalid(f"{path.name} has no column {', '.join(table.options.annotators)}.", param="annotators")
    wanted = ["model_a", "model_b"]
    if table.has("chosen", header) and not table.has("winner", header):
        wanted = ["rejected", "chosen_model", "rejected_model"]
    elif not (table.annotators(header) or {"winner_model_a", "winner_model_b"} <= set(header)):
        wanted.append("winner")
    for name in wanted:
        if not table.has(name, header):
            shown = ", ".join(column for column in header[:12] if column) or "none"
            raise Invalid(
                f"{path.name} has no column {name}: name it with --columns {name}=YOURS. Its columns: {shown}.",
                param="columns",
            )
    has_prompt = table.has("prompt", header) or table.has("messages", header) or "conversation_a" in header
    if not (has_prompt or table.options.each_its_own_prompt):
        raise Invalid(
            f"{path.name} has no prompts: name the column with --columns prompt=YOURS, or treat each vote as a prompt "
            "of its own with --each-its-own-prompt.",
            param="columns",
        )


def _kind(path: Path, text: str, rows: list[Mapping[str, Any]]) -> VoteFormat:
    if is_table(path, text):
        return "csv"
    for row in rows:
        if is_label_studio(row):
            return "labelstudio"
        if is_argilla(row):
            return "argilla"
        if "data" in row and "type" in row and ("meta" in row or "snapshot" in row or "user_id" in row):
            return "openwebui"
        if ("states" in row or "tstamp" in row) and "type" in row:
            return "fastchat"
        if "model_a" in row and "winner" in row and ("conversation_a" in row or "judge" in row):
            return "fastchat"
    return "jsonl"
