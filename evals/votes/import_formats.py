"""Files of votes: the format of a file, its rows, and which rows are votes, not votes, or unreadable.

`import_rows` and `import_logs` interpret one row; `vote_import` stores the votes.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from evals.votes.import_logs import from_fastchat_battle, from_fastchat_log, from_openwebui
from evals.votes.import_rows import COLUMNS, UNKNOWN_VOTER, BadRow, ImportedVote, NotAVote, RowError, from_row
from models.errors import Invalid, NotFound

VoteFormat = Literal["csv", "jsonl", "fastchat", "openwebui"]
FORMATS: tuple[str, ...] = get_args(VoteFormat)
_BIG_CELL = 2**27  # characters of an answer in a CSV; Python's own limit is 131,072


@dataclass(frozen=True)
class VotesFile:
    """A file's votes. `skipped` counts rows that are not votes by their kind; `notes` are sentences for the user."""

    format: VoteFormat
    votes: tuple[ImportedVote, ...]
    skipped: dict[str, int]
    bad: tuple[BadRow, ...]
    notes: tuple[str, ...]


def read_votes_file(
    path: Path, *, form: VoteFormat | None, columns: Mapping[str, str], each_its_own_prompt: bool
) -> VotesFile:
    """Reads a file of votes.

    Raises:
        NotFound: there is no such file.
        Invalid: it is not text, its format is unknown, or a required column is missing.
    """
    if form is not None and form not in FORMATS:
        raise Invalid(f"The format must be one of {', '.join(FORMATS)}, not {form!r}.", param="format")
    if unknown := set(columns) - set(COLUMNS):
        raise Invalid(f"{min(unknown)!r} is not a column of votes. Use one of: {', '.join(COLUMNS)}.", param="columns")
    text = _text(path)
    rows = list(_csv_rows(path, text, columns, each_its_own_prompt) if _is_csv(path, form) else _json_rows(text))
    kind = form or _kind(path, [row for _, row in rows if isinstance(row, Mapping)])
    votes: list[ImportedVote] = []
    skipped: Counter[str] = Counter()
    bad: list[BadRow] = []
    for line, row in rows:
        try:
            if not isinstance(row, Mapping):
                raise row if isinstance(row, RowError) else RowError("it is not a JSON object")
            votes += _votes(kind, row, line, columns, f"{path.name} line {line}" if each_its_own_prompt else None)
        except RowError as error:
            bad.append(BadRow(line, str(error)))
        except NotAVote as what:
            skipped[str(what)] += 1
    return VotesFile(kind, tuple(votes), dict(skipped), tuple(bad), _notes(votes))


def _votes(
    kind: VoteFormat, row: Mapping[str, Any], line: int, columns: Mapping[str, str], own_prompt: str | None
) -> list[ImportedVote]:
    match kind:
        case "openwebui":
            return from_openwebui(row, line)
        case "fastchat":
            return [from_fastchat_log(row, line) if "type" in row else from_fastchat_battle(row, line)]
        case _:
            return [from_row(row, line, columns, own_prompt)]


def _notes(votes: list[ImportedVote]) -> tuple[str, ...]:
    notes = []
    if votes and (unnamed := sum(vote.voter == UNKNOWN_VOTER for vote in votes)):
        notes.append(
            f"{unnamed} votes have no voter and count as one person's: a verdict averages them for each prompt."
        )
    if textless := sum(not vote.messages or not (vote.left_answer and vote.right_answer) for vote in votes):
        notes.append(f"{textless} votes lack the prompt's text or an answer: they count in ratings only.")
    return tuple(notes)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise Invalid(f"{path} is a folder: name a file.", param="file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.", param="file") from error


def _is_csv(path: Path, form: VoteFormat | None) -> bool:
    return form == "csv" or (form is None and path.suffix.lower() in (".csv", ".tsv"))


def _csv_rows(
    path: Path, text: str, columns: Mapping[str, str], each_its_own_prompt: bool
) -> Iterator[tuple[int, Mapping[str, Any] | RowError]]:
    csv.field_size_limit(_BIG_CELL)  # a process-wide limit; no other reader needs a smaller one
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    header = reader.fieldnames or []
    _check_header(path, header, columns, each_its_own_prompt)
    before = reader.line_num
    try:
        for row in reader:
            line, before = before + 1, reader.line_num
            if None in row or None in row.values():
                yield line, RowError(f"it does not have the {len(header)} cells of the header")
            else:
                yield line, row
    except csv.Error as error:
        yield before + 1, RowError(f"it is not CSV from here on ({error})")


def _check_header(path: Path, header: Any, columns: Mapping[str, str], each_its_own_prompt: bool) -> None:
    for name, column in columns.items():
        if column not in header:
            raise Invalid(f"{path.name} has no column {column!r} for {name}.", param="columns")

    def has(name: str) -> bool:
        return name in columns or any(column in header for column in COLUMNS[name])

    for name in ("model_a", "model_b", "winner"):
        if not has(name):
            raise Invalid(f"{path.name} has no column {name}: name it with --columns {name}=YOURS.", param="columns")
    if not (has("prompt") or has("messages") or each_its_own_prompt):
        raise Invalid(
            f"{path.name} has no prompts: name the column with --columns prompt=YOURS, or treat each vote as a prompt "
            "of its own with --each-its-own-prompt.",
            param="columns",
        )


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    """The objects of a JSON list, or of lines; a line that is not JSON is a RowError."""
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), start=1)
        except ValueError as error:
            raise Invalid(f"The file is not JSON: {error}.", param="file") from error
        return
    # Not splitlines(), which also splits at U+2028 and U+0085, which a JSON string may contain.
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except ValueError as error:
                yield line, RowError(f"it is not JSON ({error})")


def _kind(path: Path, rows: list[Mapping[str, Any]]) -> VoteFormat:
    if path.suffix.lower() in (".csv", ".tsv"):
        return "csv"
    for row in rows:
        if "data" in row and "type" in row and ("meta" in row or "snapshot" in row or "user_id" in row):
            return "openwebui"
        if ("states" in row or "tstamp" in row) and "type" in row:
            return "fastchat"
        if "model_a" in row and "winner" in row and ("conversation_a" in row or "judge" in row):
            return "fastchat"
    return "jsonl"
