"""Rows as files: CSV, JSONL, Parquet, or a folder that `datasets` loads; whole or not at all."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from models.errors import Invalid, NoSpace
from models.files.atomic import atomic_write, claim_folder, publish_folder

ExportFormat = Literal["csv", "jsonl", "parquet", "datasets"]
EXPORTS: tuple[str, ...] = get_args(ExportFormat)
_ENDINGS: dict[str, ExportFormat] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", "": "datasets"}
_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: train.parquet
---
{count} {what} from Parley. `from datasets import load_dataset; load_dataset("{name}", split="train")`.
"""


def write_rows(
    rows: Sequence[Mapping[str, Any]], path: Path, form: ExportFormat | None = None, what: str = "votes"
) -> int:
    """Writes rows to a file or, for `datasets`, into a new folder; returns how many.

    Args:
        form: by default from the path's ending; a path without an ending is a folder for `datasets`.
        what: the noun for the rows in the folder's card.

    Raises:
        Invalid: an unknown ending, an existing folder, or a path that cannot be written.
        NoSpace: the disk is full.
    """
    kind = form or _ENDINGS.get(path.suffix.lower())
    if kind is None or kind not in EXPORTS or str(path) == "-":
        raise Invalid(
            f"The format of {path.name} is unknown: use the ending .csv, .jsonl or .parquet, a new folder's name for "
            f"`datasets`, or --format {'|'.join(EXPORTS)}.",
            param="file",
        )
    if kind != "datasets" and path.is_dir():
        raise Invalid(f"{path} is a folder: name a file.", param="file")
    try:
        match kind:
            case "csv":
                atomic_write(path, _csv(rows))
            case "jsonl":
                atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
            case "parquet":
                atomic_write(path, _parquet(rows))
            case "datasets":
                if path.exists():
                    raise Invalid(f"{path} exists already: name a new folder.", param="file")
                with publish_folder(path.absolute().parent, path.name) as folder:
                    (folder.path / "train.parquet").write_bytes(_parquet(rows))
                    card = _CARD.format(count=len(rows), what=what, name=path.name)
                    (folder.path / "README.md").write_text(card, "utf-8")
                claim_folder(folder.final)  # no row of the database refers to it
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="file") from error
    return len(rows)


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Lists and objects as JSON in their cells."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model_a", "model_b", "winner"])
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), buffer)
    return buffer.getvalue().to_pybytes()
