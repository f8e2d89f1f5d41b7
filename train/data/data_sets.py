"""Reads data sets with the library `datasets`, which has its own download cache: hub ids, folders, saved data sets."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import Invalid, NotFound, Unavailable
from train.data.conversations import Problem
from train.data.raw_rows import Raw, without_nulls

_USUAL_SPLIT = "train"


def data_set_rows(name: str, split: str | None, label: str) -> tuple[Iterator[Raw | Problem], tuple[str, ...]]:
    """The rows and column names of a hub data set or of a folder with files.

    Raises:
        NotFound, Invalid: there is none, or it cannot be read. Unavailable: the hub cannot be reached.
    """
    import datasets

    split = split or _USUAL_SPLIT
    try:
        with _quiet_hub():
            rows: Any = datasets.load_dataset(name, split=split)
    except Exception as error:  # each of its loaders raises its own errors
        raise _data_set_error(error, label, split) from error
    return _raw(rows)


def is_saved_data_set(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def saved_rows(folder: Path) -> tuple[Iterator[Raw | Problem], tuple[str, ...]]:
    """The rows and column names of a saved data set; of its split `train` if it has several.

    Raises:
        Invalid: it cannot be read, or has no such split.
    """
    import datasets

    try:
        saved: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # a missing or broken file raises pyarrow's errors too
        text = " ".join(str(error).split())
        raise Invalid(
            f"The saved data set {folder} cannot be read: {text[:300]}. Save it again with save_to_disk.", param="data"
        ) from error
    if isinstance(saved, datasets.DatasetDict):
        if _USUAL_SPLIT not in saved and len(saved) != 1:
            example = folder / str(next(iter(saved), _USUAL_SPLIT))
            splits = ", ".join(map(str, saved))
            message = (
                f"{folder} has the splits {splits}, but no {_USUAL_SPLIT!r}: give the folder of one, such as {example}."
            )
            raise Invalid(message, param="data")
        saved = saved[_USUAL_SPLIT] if _USUAL_SPLIT in saved else next(iter(saved.values()))
    return _raw(saved)


def _raw(rows: Any) -> tuple[Iterator[Raw | Problem], tuple[str, ...]]:
    return _numbered(rows), tuple(rows.column_names or ())


def _numbered(rows: Any) -> Iterator[Raw | Problem]:
    line = 0
    try:
        for line, row in enumerate(rows, 1):
            yield Raw(line, without_nulls(row))
    except Exception as error:  # a broken file, or a sound or picture without the library that decodes it
        message = f"the data set cannot be read from here on: {' '.join(str(error).split())[:200]}"
        yield Problem(line + 1, "error", message, "remove the column, or save the data set again", "invalid-parquet")


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """No progress bars and no warning for each retry in the block: an error is reported once, in one line."""
    from datasets.utils import disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        logger.setLevel(before)


def _data_set_error(error: Exception, label: str, split: str) -> Invalid | NotFound | Unavailable:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(str(error).split())
    if names & {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "TimeoutError", "LocalEntryNotFoundError"}:
        return Unavailable(
            f"There is no such file, and the hub cannot be reached for {label}: check the name and the network "
            f"({text[:200]})."
        )
    if label.startswith("the folder") and ("FileNotFoundError" in names or "No (supported) data files" in text):
        return Invalid(
            f"T{label[1:]} has no data files: put .jsonl, .csv or .parquet files into it, or give a file.", param="data"
        )
    if "DatasetNotFoundError" in names or "FileNotFoundError" in names:
        return NotFound(
            f"There is neither a file nor a hub data set for {label}: check the name ({text[:200]}).", param="data"
        )
    return Invalid(f"{label[0].upper()}{label[1:]} (split {split}) cannot be read: {text[:300]}", param="data")
