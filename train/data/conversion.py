"""Any known format to OpenAI's: chat JSONL, or its preference rows for DPO. A file is written completely or not at all.

Labelled answers become TRL's rows for KTO, for which OpenAI has no format.

Rows that cannot be read are reported and left out. The quality of the others is not checked here but in `checks`.
Format: platform.openai.com/docs/guides/supervised-fine-tuning and …/direct-preference-optimization; Together AI takes
the same (docs.together.ai/docs/fine-tuning/data-preparation).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.files.json_lines import refuse_overwrite, write_json_lines
from train.data.checks import check
from train.data.conversations import Conversation, Example, Preference, Problem, message_dicts
from train.data.readers import Columns, read
from train.data.splits import split

_PARALLEL = "parallel_tool_calls"


@dataclass(frozen=True)
class Converted:
    """The result of a conversion: `lines` were read, `written` rows are in `path`."""

    path: Path
    format: str | None
    lines: int
    written: int
    problems: tuple[Problem, ...]

    @property
    def left_out(self) -> int:
        """The number of lines that could not be read."""
        return len({problem.line for problem in self.problems if problem.severity == "error"})

    def to_json(self) -> dict[str, Any]:
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
    """Converts data of any known format to OpenAI's chat JSONL; preference pairs become its preference rows, and
    labelled answers TRL's rows for KTO.

    Args:
        data, columns, format: as `check` takes them.
        out: the file to write.
        per_turn: one row for each learnt answer, with all the messages before it.
        metadata: keep the other fields of each row, under `metadata`.
        force: overwrite an existing file.

    Raises:
        Conflict: `out` exists. Invalid, NotFound, Unavailable: as `read`. NoSpace: the disk is full.
    """
    refuse_overwrite([out], force)
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

    written = write_json_lines(out, rows())
    return Converted(out, reading.format, reading.lines, written, tuple(problems))


def as_row(item: Example | Preference, *, metadata: bool = False) -> dict[str, Any]:
    """One row as OpenAI's fine-tuning takes it, or TRL's KTO. Weights of 1 and empty tools are left out."""
    if isinstance(item, Preference):
        given: dict[str, Any] = {"messages": message_dicts(item.prompt)} | _tools(item)
        answers = {"preferred_output": message_dicts(item.chosen), "non_preferred_output": message_dicts(item.rejected)}
        row: dict[str, Any] = {"input": given, **answers}
    elif item.label is not None:
        messages = item.conversation.as_dicts()
        answer = min(item.learnt, default=len(messages) - 1)
        row = {"prompt": messages[:answer], "completion": messages[answer:], "label": item.label} | _tools(item)
    else:
        messages = item.conversation.as_dicts()
        for position in item.unweighted:
            messages[position]["weight"] = 0
        row = {"messages": messages} | _tools(item)
    rest = {key: value for key, value in item.metadata.items() if key != _PARALLEL}
    return row | ({"metadata": rest} if metadata and rest else {})


def as_jsonl(items: Iterable[Example | Preference]) -> bytes:
    """The rows that a provider takes, without metadata, one a line in UTF-8."""
    rows = (as_row(replace(item, metadata={})) for item in items)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _tools(item: Example | Preference) -> dict[str, Any]:
    tools = (
        Conversation((), item.tools).tool_dicts() if isinstance(item, Preference) else item.conversation.tool_dicts()
    )
    fields: dict[str, Any] = {"tools": tools} if tools else {}
    if _PARALLEL in item.metadata:
        fields[_PARALLEL] = item.metadata[_PARALLEL] == "true"
    return fields


@dataclass(frozen=True)
class SplitFiles:
    """The written files. `strata` has the number of (training, validation) rows for each value of the field."""

    train: Path
    validation: Path
    train_rows: int
    validation_rows: int
    seed: int
    by: str | None
    strata: dict[str, tuple[int, int]]
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"train": str(self.train), "validation": str(self.validation)}


def split_files(
    data: str | Path,
    train: Path,
    validation: Path,
    *,
    share: float,
    seed: int = 0,
    by: str | None = None,
    columns: Columns | None = None,
    format: str = "auto",  # noqa: A002 -- as the flag
) -> SplitFiles:
    """Writes both parts as OpenAI's JSONL, with the other fields of each row under `metadata`.

    Lines with errors are left out and are in `problems`. Duplicates are in the same part.

    Raises:
        Invalid: a share outside [0, 0.5], or a field that no row has; and whatever `check` raises.
    """
    checked = check(data, columns, format=format, provider="local")
    parts: Any = split(checked.preferences or checked.examples, share, seed, by)  # type: ignore[type-var]  # one of the two, never both
    for path, rows in ((train, parts.train), (validation, parts.validation)):
        write_json_lines(path, (as_row(row, metadata=True) for row in rows))
    strata: dict[str, tuple[int, int]] = {}
    if by:
        training, held_out = (
            Counter(row.metadata.get(by, "") for row in rows) for rows in (parts.train, parts.validation)
        )
        strata = {value: (training[value], held_out[value]) for value in sorted(training | held_out)}
    return SplitFiles(
        train, validation, len(parts.train), len(parts.validation), seed, by, strata, checked.problems
    )  # fmt: skip
