"""Where a task's rows are: a JSONL or CSV file, a `datasets` folder or hub id, stored prompts, a run's held-out part.

`open_task` takes what a person types. It reads; what makes a row a sample is `evals.tasks.task`'.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.tasks.task import Task, make_task
from evals.votes.prompts import TYPED, Prompt, prompts
from models.database import Database
from models.errors import Invalid, NotFound, Unavailable

HELD_OUT = "validation.jsonl"  # in a run's folder: what the training held out
_STORED = "prompts"
_RUN = "run:"


def open_task(
    typed: str,
    database: Database,
    runs: Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Task:
    """The task that a person names.

    Args:
        typed: a .jsonl or .csv file; a folder that `datasets` wrote or can load; a hub id, `owner/name`, with
            `:split` after it where it is not test; `prompts`, `prompts:held-out` or `prompts:typed` for what is stored
            here; `run:ID` for what a training held out.
        runs: the folder of the runs.
        name: what the task is called; without it, the file's or the set's own name.
        columns: see `make_task`.

    Raises:
        NotFound: there is no such file, run or data set, or no prompts are stored.
        Invalid: nothing in it is a sample.
        Unavailable: the hub cannot be reached.
    """
    if typed == _STORED or typed.startswith(_STORED + ":"):
        return make_task(name or typed, typed, _stored(database, typed.partition(":")[2]), columns)
    if typed.startswith(_RUN):
        path = _held_out(runs, typed.removeprefix(_RUN))
        return make_task(name or typed, typed, _jsonl(path), columns)
    path = Path(typed)
    if path.is_file():
        rows = _csv(path) if path.suffix.lower() in (".csv", ".tsv") else _jsonl(path)
        return make_task(name or path.stem, path.name, rows, columns)
    if path.suffix.lower() in (".jsonl", ".csv", ".tsv", ".json"):
        raise NotFound(f"There is no file {path}.", param="task")
    return make_task(name or Path(typed.partition(":")[0]).name, typed, _dataset(typed), columns)


def _stored(database: Database, which: str) -> Iterator[tuple[str, Any]]:
    found: list[Prompt]
    if which == "":
        found = prompts(database)
    elif which == "held-out":
        found = prompts(database, held_out=True)
    elif which == TYPED:
        found = [prompt for prompt in prompts(database, typed=True) if prompt.source == TYPED]
    else:
        raise Invalid(
            f"There is no task prompts:{which}: say prompts, prompts:held-out or prompts:typed.", param="task"
        )
    if not found:
        raise NotFound("There are no such prompts yet: add some with `parley prompts add FILE`.", param="task")
    for prompt in found:
        yield (
            f"prompt {prompt.id}",
            {
                "id": prompt.id,
                "messages": [message.model_dump() for message in prompt.messages],
                "category": prompt.category,
                "topics": [list(group) for group in prompt.topics] or None,
                "metadata": {"source": prompt.source},
            },
        )


def _held_out(runs: Path, wanted: str) -> Path:
    found = [folder for folder in sorted(runs.glob("*")) if folder.is_dir() and folder.name.endswith(wanted)]
    if not wanted or not found:
        raise NotFound(f"There is no training run {wanted!r}.", param="task")
    if len(found) > 1:
        raise Invalid(f"{len(found)} runs end with {wanted!r}: write more of its id.", param="task")
    path = found[0] / HELD_OUT
    if not path.is_file():
        raise NotFound(
            f"The run {found[0].name} kept no held-out part: divide the file with `parley data split` and use that.",
            param="task",
        )
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.", param="task") from error


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    # Not splitlines(), which would also cut at the U+2028 or U+0085 that a JSON string may hold.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", ValueError(f"it is no JSON ({' '.join(str(error).split())[:120]})")


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    text = _text(path)
    # The separator is what the first line has most of, outside what is quoted; a comma where it has none.
    header = text.partition("\n")[0]
    separator = max((",", ";", "\t"), key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield f"line {reader.line_num}", ValueError(f"it is no CSV ({error})")
            continue
        if row is None:
            return
        if None in row:
            yield f"line {reader.line_num}", ValueError("it has more cells than the header")
        else:
            yield f"line {reader.line_num}", row


def _dataset(typed: str) -> Iterable[tuple[str, Any]]:
    """The rows of a `datasets` folder or hub id; where it has several splits and no test, the split must be named."""
    from datasets import Dataset, load_dataset, load_from_disk

    place, _, split = typed.partition(":")
    folder = Path(place)
    try:
        if folder.is_dir() and ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
            found = load_from_disk(place)
        elif folder.is_dir() or place.count("/") == 1:
            found = load_dataset(place)
        else:
            raise NotFound(
                f"{typed!r} is no file, no folder and no data set's id (owner/name). Stored prompts are `prompts`.",
                param="task",
            )
    except ConnectionError as error:
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"The data set {place} cannot be fetched: the hub cannot be reached.") from error
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise NotFound(f"The data set {place} cannot be loaded: {said}", param="task") from error
    if not isinstance(found, Dataset):
        found = _split(found, split, place)
    return ((f"row {number}", row) for number, row in enumerate(found, start=1))


def _split(found: Any, split: str, place: str) -> Any:
    names = list(found)
    wanted = split or ("test" if "test" in names else names[0] if len(names) == 1 else "")
    if wanted not in names:
        raise Invalid(f"{place} has the splits {', '.join(names)}: say which, {place}:{names[0]}.", param="task")
    return found[wanted]
