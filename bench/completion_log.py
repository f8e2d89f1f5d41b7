"""The cost of storing chat completions and responses for the gateway's event loop; a thread does the rest.

    python -m bench.completion_log [--json]

CPU time in µs, the fastest of nine repetitions: of a request that is stored, of each chunk of a stored stream, and of a
request that is not stored; then of a stored response, which gets the field `store`: whole, as a stream without deltas,
and of each delta. Exit status 1 if a stored completion or whole response takes more than 5 µs.
"""

import argparse
import json
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from models.database import open_database
from models.settings.settings import load_settings
from serve.accounting.captured_completions import CapturedCompletion, CapturedResponse
from serve.accounting.completion_log import CompletionLog
from serve.accounting.request_report import RequestRecord
from serve.gateway.response_frames import ShownFieldsFilter
from serve.transport.sse_frames import ResponsesFrameFilter

_LIMIT_US = 5.0
_REPETITIONS, _NUMBER, _CHUNKS = 9, 2000, 64
_DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"word "}\n\n'
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
    return int(max(result["stored_us"], result["response_us"]) > _LIMIT_US)


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

    content = _response()
    event = _frame("response.completed", content)
    ends = [_frame("response.created", content | {"output": []}), event]
    events = [ends[0], *[_DELTA] * _CHUNKS, event]

    def store_response() -> None:
        if log.wants_response(plain):
            captured = CapturedResponse(_BODY, log.record)
            captured.add(orjson.dumps(content | {"store": True}))
            log.record(captured, record)
            log.discard()

    def filter_events(frames: ResponsesFrameFilter, sent: list[bytes], *, stored: bool) -> None:
        captured = CapturedResponse(_BODY, log.record) if stored and log.wants_response(plain) else None
        for frame in sent:
            piece = frames.feed(frame)
            if captured is not None:
                captured.add(piece)
        if captured is not None:
            log.record(captured, record)
            log.discard()

    def added_us(sent: list[bytes]) -> float:
        kept = _fastest_us(lambda: filter_events(ShownFieldsFilter({"store": True}), sent, stored=True))
        return kept - _fastest_us(lambda: filter_events(ResponsesFrameFilter(), sent, stored=False))

    whole, stream = (_RESPONSE,), (_CHUNK,) * _CHUNKS
    whole_us, stream_us = _fastest_us(lambda: store(stored, whole)), _fastest_us(lambda: store(stored, stream))
    return {
        "stored_us": round(whole_us, 2),
        "stored_chunk_us": round((stream_us - whole_us) / (_CHUNKS - 1), 3),
        "not_stored_us": round(_fastest_us(lambda: store(plain, whole)), 3),
        "response_us": round(_fastest_us(store_response), 2),
        "response_stream_us": round(added_us(ends), 2),
        "response_chunk_us": round((added_us(events) - added_us(ends)) / _CHUNKS, 3),
    }


def _response() -> dict[str, Any]:
    part = {"type": "output_text", "text": "word " * 60, "annotations": [], "logprobs": None}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {"input_tokens": 40, "output_tokens": 60, "total_tokens": 100}
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [message], "usage": usage}


def _frame(kind: str, content: dict[str, Any]) -> bytes:
    data = orjson.dumps({"type": kind, "response": content, "sequence_number": 0})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _fastest_us(function: Callable[[], None]) -> float:
    return min(timeit.repeat(function, number=_NUMBER, repeat=_REPETITIONS)) / _NUMBER * 1e6


if __name__ == "__main__":
    sys.exit(main())
