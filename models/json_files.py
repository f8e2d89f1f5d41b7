"""Reads the JSON files of a model's folder, which may be missing, damaged, or made to exhaust memory."""

import json
from pathlib import Path
from typing import Any

# The errors of a file that is missing, no JSON, nested too deeply, or larger than the memory.
UNREADABLE = (OSError, ValueError, RecursionError, MemoryError)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_bytes())
    except UNREADABLE:
        return {}
    return content if isinstance(content, dict) else {}
