"""The rows of a Parquet file, bounded: a file of a few kilobytes can unpack to gigabytes.

A dictionary stores a text once for all rows that have it, and compression shrinks repeated pages a thousand times. So
the size of rows is known before they become Python objects.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.data.conversations import Problem
from train.data.raw_rows import Raw, without_nulls

# Text with its usual repetitions, such as the same system message in each row, shrinks 20 to 50 times.
_MAX_EXPANSION = 100
_ALWAYS_ACCEPTED = 64 * 2**20
_ROWS_AT_ONCE = 1_000
_NESTED_ROWS_AT_ONCE = 16  # Arrow copies their texts out of the dictionary, up to 2 GiB at once
_BYTES_AT_ONCE = 16 * 2**20
_VALUE_BYTES = 16  # a value's own cost, so that millions of empty ones count too


class ParquetRows:
    """A Parquet file's column names and rows.

    Raises:
        Invalid: it is not a Parquet file.
    """

    def __init__(self, path: Path) -> None:
        from pyarrow import ArrowException, parquet

        try:
            metadata = parquet.read_metadata(path)
            columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
            texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
            # Arrow cannot keep the dictionaries of nested texts (those with a dot) in general.
            flat = [name for name in texts if "." not in name]
            self._file = parquet.ParquetFile(path, metadata=metadata, read_dictionary=flat)
        except (ArrowException, OSError) as error:
            text = " ".join(str(error).split()).rstrip(".")
            message = f"{path.name} cannot be read as Parquet ({text[:200]}): export it again, or save it as .jsonl."
            raise Invalid(message, param="data") from error
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self._rows_at_once = _ROWS_AT_ONCE if flat == texts else _NESTED_ROWS_AT_ONCE
        self._limit = max(_ALWAYS_ACCEPTED, path.stat().st_size * _MAX_EXPANSION)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        self._stored_bytes = sum(group.total_byte_size for group in groups)

    def __iter__(self) -> Iterator[Raw | Problem]:
        """The rows; a Problem instead of the rest if that cannot be read or is too large."""
        from pyarrow import ArrowException

        line = size = 0
        with self._file:
            if self._stored_bytes > self._limit:
                yield self._too_large(1)
                return
            try:
                for batch in self._file.iter_batches(batch_size=self._rows_at_once):
                    for part, part_bytes in _small_parts(batch):
                        size += part_bytes
                        if size > self._limit:
                            yield self._too_large(line + 1)
                            return
                        for row in part.to_pylist():
                            line += 1
                            yield Raw(line, without_nulls(row))
            except (ArrowException, OSError, ValueError) as error:
                mend = "export the file again; nothing after this row could be read"
                yield Problem(line + 1, "error", f"not Parquet: {error}", mend, "invalid-parquet")

    def _too_large(self, line: int) -> Problem:
        message = f"the file unpacks to more than {self._limit // 2**20} MiB"
        mend = "save it as .jsonl; nothing from this row on was read"
        return Problem(line, "error", message, mend, "invalid-parquet")


def _small_parts(batch: Any) -> Iterator[tuple[Any, int]]:
    """A batch in parts that unpack to `_BYTES_AT_ONCE` at most or are single rows, each with its unpacked size."""
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        size = sum(map(_unpacked_bytes, part.columns)) + part.num_rows * _VALUE_BYTES
        if size <= _BYTES_AT_ONCE or part.num_rows <= 1:
            yield part, size
        else:
            half = part.num_rows // 2
            waiting += [part.slice(half), part.slice(0, half)]


def _unpacked_bytes(array: Any) -> int:
    """The size of an Arrow array's values as Python objects, without making them."""
    from pyarrow import compute, types

    own = len(array) * _VALUE_BYTES
    if types.is_dictionary(array.type):
        lengths = compute.call_function("binary_length", [array.dictionary]).take(array.indices)
        return own + (compute.call_function("sum", [lengths]).as_py() or 0)
    if types.is_struct(array.type):
        return own + sum(map(_unpacked_bytes, array.flatten()))
    if types.is_list(array.type) or types.is_large_list(array.type) or types.is_map(array.type):
        return own + _unpacked_bytes(array.flatten())
    return own + array.nbytes
