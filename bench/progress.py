"""Progress lines of the benchmarks."""

import sys


def print_progress(line: str) -> None:
    """Prints a line on standard error: standard output is for the table and the JSON line."""
    print(line, file=sys.stderr, flush=True)
