"""Any known format into OpenAI's: chat JSONL, or its preference rows for DPO. Row by row, and whole or not at all.

What cannot be read is told and left out; what can be read is written, however good it is: judging is `checks`' work.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.atomic import incoming_file
from models.errors import Conflict, Invalid
from train.data.conversations import Conversation, Example, Preference, Problem, dicts
from train.data.readers import Columns, read

_PARALLEL = "parallel_tool_calls"


@dataclass(frozen=True)
class Converted:
    """What was written, and what was not. `lines` were read, `written` rows are in `path`."""

    path: Path
    format: str | None
    lines: int
    written: int
    problems: tuple[Problem, ...]

    @property
    def left_out(self) -> int:
        """How many lines could not be read."""
        return len({problem.line for problem in self.problems if problem.severity == "error"})

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        problems = [asdict(problem) for problem in self.problems]
        return asdict(self) | {"path": str(self.path), "left_out": self.left_out, "problems": problems}


def convert(
    data: str | Path,
    out: Path,
    columns: Columns | None = None,
    *,
    format: str = "auto",  # noqa: A002 -- as the flag
    per_turn: bool = False,
    metadata: bool = False,
    force: bool = False,
) -> Converted:
    """Writes any known data as OpenAI's chat JSONL (preference pairs as its preference rows).

    Args:
        data, columns, format: as `check` takes them.
        out: the file to write.
        per_turn: one row for each learnt answer, with the whole context before it.
        metadata: keep the other fields of each row, under `metadata`.
        force: write over a file that is there.

    Raises:
        Conflict: `out` is there already. Invalid, NotFound, Unavailable: as `read`. NoSpace: the disk is full.
    """
    refuse_taken([out], force)
    reading = read(data, columns, format)
    problems: list[Problem] = []

    def rows() -> Iterator[dict[str, Any]]:
        for item in reading:
            if isinstance(item, Problem):
                problems.append(item)
            elif isinstance(item, Example) and per_turn:
                yield from (as_row(turn, metadata=metadata) for turn in item.per_turn())
            else:
                yield as_row(item, metadata=metadata)

    written = write_rows(out, rows())
    return Converted(out, reading.format, reading.lines, written, tuple(problems))


def as_row(item: Example | Preference, *, metadata: bool = False) -> dict[str, Any]:
    """One row as OpenAI's fine-tuning takes it: weights only where one is 0, tools where there are any."""
    if isinstance(item, Preference):
        asked: dict[str, Any] = {"messages": dicts(item.prompt)} | _tools(item)
        answers = {"preferred_output": dicts(item.chosen), "non_preferred_output": dicts(item.rejected)}
        row: dict[str, Any] = {"input": asked, **answers}
    else:
        messages = item.conversation.as_dicts()
        for position in item.unweighted:
            messages[position]["weight"] = 0
        row = {"messages": messages} | _tools(item)
    rest = {key: value for key, value in item.metadata.items() if key != _PARALLEL}
    return row | ({"metadata": rest} if metadata and rest else {})


def write_rows(out: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes JSONL, whole or not at all; returns how many rows.

    Raises:
        NoSpace: the disk is full. Invalid: the folder cannot be written.
    """
    written = 0
    try:
        with incoming_file(out.parent) as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                written += 1
            file.publish(out.name)
    except PermissionError as error:
        raise Invalid(f"{out} cannot be written: {error.strerror}.", param="out") from error
    return written


def refuse_taken(paths: Sequence[Path], force: bool) -> None:
    """Nothing is written over unless it is asked for.

    Raises:
        Conflict: one of the files is there. Invalid: it is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise Invalid(f"{path} is a folder: name a file.", param="out")
        if path.exists() and not force:
            raise Conflict(f"{path} exists: name another file, or write over it with --force.", param="out")


def _tools(item: Example | Preference) -> dict[str, Any]:
    tools = (
        Conversation((), item.tools).tool_dicts() if isinstance(item, Preference) else item.conversation.tool_dicts()
    )
    found: dict[str, Any] = {"tools": tools} if tools else {}
    if _PARALLEL in item.metadata:
        found[_PARALLEL] = item.metadata[_PARALLEL] == "true"
    return found
