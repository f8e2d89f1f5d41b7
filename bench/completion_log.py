"""The cost of storing a chat completion for the gateway's event loop; a thread does the rest.

    python -m bench.completion_log [--json]

CPU time in µs, the fastest of nine repetitions: of a request that is stored, of each chunk of a stored stream, and of a
request that is not stored. Exit status 1 if a stored request takes more than 5 µs.
"""

import argparse
import json
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.database import open_database
from models.settings.settings import load_settings
from serve.accounting.completion_log import CapturedCompletion, CompletionLog
from serve.accounting.request_report import RequestRecord

_LIMIT_US = 5.0
_REPETITIONS, _NUMBER, _CHUNKS = 9, 2000, 64
_BODY, _RESPONSE, _CHUNK = b"x" * 600, b"y" * 400, b"z" * 220


def main() -> int:
    """Runs the bench; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.completion_log", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = measure(Path(folder))
    if not options.json:
        for name, value in result.items():
            print(f"{name:24}{value}")
    print(json.dumps(result))
    return int(result["stored_us"] > _LIMIT_US)


def measure(folder: Path) -> dict[str, float]:
    """The times in µs."""
    settings = load_settings(home=folder)
    log, record = CompletionLog(settings, open_database(settings)), RequestRecord()
    plain = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    stored = plain | {"store": True, "metadata": {"desk": "orders"}}

    def store(content: dict[str, Any], pieces: tuple[bytes, ...]) -> None:
        if not log.wants(content):
            return
        captured = CapturedCompletion(_BODY, log.record)
        for piece in pieces:
            captured.add(piece)
        log.record(captured, record)
        log.discard()

    whole, stream = (_RESPONSE,), (_CHUNK,) * _CHUNKS
    one, many = _fastest_us(lambda: store(stored, whole)), _fastest_us(lambda: store(stored, stream))
    return {
        "stored_us": round(one, 2),
        "stored_chunk_us": round((many - one) / (_CHUNKS - 1), 3),
        "not_stored_us": round(_fastest_us(lambda: store(plain, whole)), 3),
    }


def _fastest_us(function: Callable[[], None]) -> float:
    return min(timeit.repeat(function, number=_NUMBER, repeat=_REPETITIONS)) / _NUMBER * 1e6


if __name__ == "__main__":
    sys.exit(main())
