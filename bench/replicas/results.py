"""Prints the results of a bench of replicas."""

import json
from collections.abc import Mapping
from typing import Any

from models.terminal import console


def print_results(results: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints results as one JSON object or as lines."""
    if as_json:
        print(json.dumps(results))
        return
    out = console()
    for name, value in results.items():
        out.print(f"{name:26} {value}")
