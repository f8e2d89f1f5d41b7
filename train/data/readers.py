"""Reads training files: chat JSONL as OpenAI's, and CSV whose columns are named by the caller.

Every line becomes an Example or Problems; a broken line never stops the others. What an example must look like as
a conversation (roles, order, emptiness) is `checks`' business; here is only what the file format says.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Invalid, NotFound
from models.messages import Message
from train.data.conversations import Conversation, Example, Problem

_ROLES = ("system", "user", "assistant")
# A cell can hold a whole manual; csv's own limit of 131,072 characters would end the reading there.
_CELL_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Columns:
    """Which columns of a CSV hold what. `system` is one text that every conversation begins with."""

    prompt: str = "prompt"
    response: str = "response"
    system_column: str | None = None
    system: str | None = None


def read(path: Path, columns: Columns | None = None) -> Iterator[Example | Problem]:
    """The examples and problems of a file, in its order; the suffix says the format (.jsonl, .csv, .tsv).

    Args:
        path: the training file.
        columns: for CSV, its columns; `columns.system` is also put before JSONL conversations that have none.

    Raises:
        NotFound: there is no such file. Invalid: a suffix that no reader knows, or a CSV without the columns.
    """
    columns = columns or Columns()
    if not path.is_file():
        raise NotFound(f"There is no training file {path}.", param="data")
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(path, columns.system)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, columns, "\t" if suffix == ".tsv" else ",")
    raise Invalid(f"{path.name}: training data is .jsonl (chat messages) or .csv / .tsv.", param="data")


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Example | Problem]:
    """The same as a JSONL file, from dictionaries `{"messages": [...]}` that are in memory already."""
    for line, row in enumerate(rows, 1):
        yield from _parse_row(line, row, None)


def _read_jsonl(path: Path, system: str | None) -> Iterator[Example | Problem]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue  # a blank line is layout, not data
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield Problem(line, "error", f"not UTF-8 (byte {error.start})", "save the file as UTF-8")
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:  # a ValueError of its own: a number of over 4,300 digits
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or too long"
                yield Problem(line, "error", f"not JSON: {reason}", "put one JSON object on each line")
                continue
            yield from _parse_row(line, row, system)


def _parse_row(line: int, row: Any, system: str | None) -> Iterator[Example | Problem]:
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        yield Problem(line, "error", "no list `messages`", 'write {"messages": [{"role": …, "content": …}, …]}')
        return
    if row.get("tools") or row.get("functions"):
        yield Problem(line, "error", "has tools, which are not trained here yet", "leave tools out of this line")
        return
    messages: list[Message] = []
    unweighted: set[int] = set()
    for position, raw in enumerate(row["messages"]):
        parsed = _parse_message(raw)
        if isinstance(parsed, tuple):
            yield Problem(line, "error", f"message {position + 1}: {parsed[0]}", parsed[1])
            return
        weight = raw.get("weight", 1)
        if weight not in (0, 1) or (weight == 0 and parsed.role != "assistant"):
            wrong = f"message {position + 1}: weight {weight!r} on role {parsed.role}"
            yield Problem(line, "error", wrong, "weight is 0 or 1, and 0 only on the assistant's messages")
            return
        if weight == 0:
            unweighted.add(position)
        messages.append(parsed)
    if system and not any(message.role == "system" for message in messages):
        messages.insert(0, Message(role="system", content=system))
        unweighted = {position + 1 for position in unweighted}
    yield Example(line, Conversation(tuple(messages)), frozenset(unweighted))


def _parse_message(raw: Any) -> Message | tuple[str, str]:
    """A message, or (what is wrong, what to do)."""
    if not isinstance(raw, Mapping):
        return "not an object", 'write {"role": …, "content": …}'
    role = raw.get("role")
    if raw.get("tool_calls") or raw.get("function_call") or role in ("tool", "function"):
        return "a tool call, which is not trained here yet", "leave this line out"
    if role == "developer":  # OpenAI's newer name for the same thing
        role = "system"
    if role not in _ROLES:
        return f"unknown role {role!r}", "use system, user or assistant"
    content = raw.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
            return "content with parts that are not text", "keep text only"
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        return f"content is {type(content).__name__}, not text", "give the content as a string"
    if any("\ud800" <= letter <= "\udfff" for letter in content):  # no UTF-8 can hold it, so no tokenizer takes it
        return "content holds half a character (\\ud800 to \\udfff)", "mend the export: an emoji was cut in two"
    return Message(role=role, content=content)


def _read_csv(path: Path, columns: Columns, delimiter: str) -> Iterator[Example | Problem]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        csv.field_size_limit(_CELL_LIMIT)
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        wanted = {
            "prompt": columns.prompt,
            "response": columns.response,
        } | ({"system": columns.system_column} if columns.system_column else {})
        for part, name in wanted.items():
            if name not in header:
                raise Invalid(
                    f"{path.name} has no column {name!r} for the {part}; it has {', '.join(header) or 'none'}. "
                    f"Name it with --{part}-column.",
                    param="data",
                )
        places = {part: header.index(name) for part, name in wanted.items()}
        yield from _csv_rows(reader, places, len(header), columns.system)


def _csv_rows(reader: Any, places: Mapping[str, int], width: int, system: str | None) -> Iterator[Example | Problem]:
    while True:
        line = reader.line_num + 1  # a quoted cell spans lines: this is where the row begins
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(line, "error", f"not CSV: {error}", "mend or remove this row")
            continue
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != width:
            yield Problem(
                line, "error", f"{len(row)} cells where the header has {width}", "quote cells that hold commas"
            )
            continue
        cells = {part: row[place] for part, place in places.items()}
        if any("\udc80" <= letter <= "\udcff" for cell in cells.values() for letter in cell):
            yield Problem(line, "error", "not UTF-8", "save the file as UTF-8")
            continue
        instruction = cells.get("system", "").strip() or (system or "")
        messages = [Message(role="system", content=instruction)] if instruction else []
        messages.append(Message(role="user", content=cells["prompt"].strip()))
        messages.append(Message(role="assistant", content=cells["response"].strip()))
        yield Example(line, Conversation(tuple(messages)))
