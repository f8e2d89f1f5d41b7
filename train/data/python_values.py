"""Values in Python's notation, as pandas and `print` write them: read without running code."""

import ast
import json
import warnings
from typing import Any

from train.data.raw_rows import Raw

_LONGEST_PYTHON = 4 * 2**20  # a syntax tree takes a hundred times the memory of its text


def python_values(text: str) -> list[Raw] | None:
    """The elements of a list, or one object, in Python's notation; None if it is something else."""
    start = text.lstrip()
    if "'" not in text or len(text) > _LONGEST_PYTHON or start[:1] not in ("[", "{"):
        return None
    before = text.count("\n", 0, len(text) - len(start))
    try:
        with warnings.catch_warnings(action="ignore"):  # of backslashes
            body = ast.parse(start.rstrip(), mode="eval").body
        parts = body.elts if isinstance(body, ast.List) else [body]
        # Through JSON: tuples become lists, and what JSON has no form for, such as a set, is refused.
        values = [json.loads(json.dumps(ast.literal_eval(part))) for part in parts]
        return [Raw(before + part.lineno, value) for part, value in zip(parts, values, strict=True)]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def cell_value(text: str) -> Any:
    """The list or object that a table's cell holds as JSON, or in Python's notation, as pandas writes it.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        values = python_values(text)
        if values is None:
            raise ValueError(str(error)) from error
        rows = [value.row for value in values]
        return rows if text.lstrip().startswith("[") else rows[0]
