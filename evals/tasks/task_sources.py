"""Where a task's rows come from: a JSONL or CSV file, a `datasets` folder or hub id, stored prompts, a training run.

`open_task` takes what a person types; `task_rows` turns the rows into samples.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.tasks.task import Task
from evals.tasks.task_rows import make_task
from evals.votes.prompts import TYPED, Prompt, prompts
from models.database import Database
from models.errors import Invalid, NotFound, Unavailable

HELD_OUT = "validation.jsonl"  # in a run's folder: its held-out conversations
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
    """The task with this name.

    Args:
        typed: a .jsonl or .csv file; a folder that `datasets` wrote or can load; a hub id, `owner/name`, followed by
            `:split` where it is not test; `prompts`, `prompts:held-out` or `prompts:typed` for stored prompts;
            `run:ID` for the held-out part of a training run.
        runs: the folder of the training runs.
        name: the task's name; without it, the file's or the data set's own name.
        columns: see `make_task`.

    Raises:
        NotFound: there is no such file, run or data set, or no prompts are stored.
        Invalid: it has no samples.
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
    stored: list[Prompt]
    if which == "":
        stored = prompts(database)
    elif which == "held-out":
        stored = prompts(database, held_out=True)
    elif which == TYPED:
        stored = [prompt for prompt in prompts(database, typed=True) if prompt.source == TYPED]
    else:
        raise Invalid(
            f"There is no task prompts:{which}. Use prompts, prompts:held-out or prompts:typed.", param="task"
        )
    if not stored:
        raise NotFound("There are no such prompts yet: add some with `parley prompts add FILE`.", param="task")
    for prompt in stored:
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


def _held_out(runs: Path, run_id: str) -> Path:
    folders = [folder for folder in sorted(runs.glob("*")) if folder.is_dir() and folder.name.endswith(run_id)]
    if not run_id or not folders:
        raise NotFound(f"There is no training run {run_id!r}.", param="task")
    if len(folders) > 1:
        raise Invalid(f"{len(folders)} run ids end in {run_id!r}: use more characters.", param="task")
    path = folders[0] / HELD_OUT
    if not path.is_file():
        raise NotFound(
            f"The run {folders[0].name} has no held-out part: split the file with `parley data split` instead.",
            param="task",
        )
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as UTF-8 text: {error}.", param="task") from error


def _jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    # Not splitlines(), which also splits at U+2028 and U+0085, which a JSON string may contain.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", ValueError(f"it is not JSON ({' '.join(str(error).split())[:120]})")


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    text = _text(path)
    # The separator is the most frequent one in the header, outside quotes; a comma by default.
    header = text.partition("\n")[0]
    separator = max((",", ";", "\t"), key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield f"line {reader.line_num}", ValueError(f"it is not CSV ({error})")
            continue
        if row is None:
            return
        if None in row:
            yield f"line {reader.line_num}", ValueError("it has more cells than the header")
        else:
            yield f"line {reader.line_num}", row


def _dataset(typed: str) -> Iterable[tuple[str, Any]]:
    """The rows of a `datasets` folder or hub id; of several splits without a test split, one must be named."""
    from datasets import Dataset, load_dataset, load_from_disk

    place, _, split = typed.partition(":")
    folder = Path(place)
    try:
        if folder.is_dir() and ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
            loaded = load_from_disk(place)
        elif folder.is_dir() or place.count("/") == 1:
            loaded = load_dataset(place)
        else:
            raise NotFound(
                f"{typed!r} is not a file, a folder or a data set's id (owner/name). Stored prompts are `prompts`.",
                param="task",
            )
    except ConnectionError as error:
        if isinstance(error, Unavailable):
            raise
        raise Unavailable(f"The data set {place} cannot be downloaded: the hub cannot be reached.") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NotFound(f"The data set {place} cannot be loaded: {reason}", param="task") from error
    if not isinstance(loaded, Dataset):
        loaded = _split(loaded, split, place)
    return ((f"row {number}", row) for number, row in enumerate(loaded, start=1))


def _split(splits: Any, split: str, place: str) -> Any:
    names = list(splits)
    name = split or ("test" if "test" in names else names[0] if len(names) == 1 else "")
    if name not in names:
        raise Invalid(f"{place} has the splits {', '.join(names)}: name one, such as {place}:{names[0]}.", param="task")
    return splits[name]
