"""The access log: one JSON line per request, without any content. Written by a thread, rotated by size.

`line` only appends to a queue in memory, so the event loop never waits for a disk. If the disk is full or missing,
lines
are lost, not requests.
"""

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from logging.handlers import RotatingFileHandler
from pathlib import Path

_INTERVAL_S = 0.5
_STOP_S = 5.0
_WARN_INTERVAL_S = 60.0
_FILE_BYTES = 32 * 2**20
_OLD_FILES = 4
_MAX_WAITING = 200_000  # lines kept while a disk hangs: about 60 MB
_log = logging.getLogger("parley.gateway")


# One request: end time (seconds since the epoch), id, client address, key name, method, route, model id, status,
# seconds, seconds to the first piece of a stream, prompt and completion tokens, whether it streamed, bytes of the
# response body, stream fault. A plain tuple, because a named one costs as much as everything else here.
Line = tuple[float, bytes, str, str, str, str, str, int, float, float | None, int, int, bool, int, str]


class AccessLog:
    """Writes `logs/access.log`. `line` is for the event loop, the rest for the process's start and end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[Line] = deque(maxlen=_MAX_WAITING)
        self._lost_lines, self._warn_at = 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        # Logs a request. A bound method saves a call.
        self.line = self._waiting.append

    def start(self) -> None:
        """Starts the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Writes the remaining lines and stops the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        handler: _Handler | None = None
        while True:
            stopped = self._stop.wait(_INTERVAL_S)
            if self._waiting:
                handler = self._write(handler)
            if stopped:
                break
        if handler is not None:
            handler.close()

    def _write(self, handler: "_Handler | None") -> "_Handler | None":
        lines = [_format_line(self._waiting.popleft()) for _ in range(len(self._waiting))]
        text = "\n".join(lines)
        try:
            handler = handler or _Handler(self._path)
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
        except OSError as error:
            self._lost_lines += len(lines)
            if time.monotonic() >= self._warn_at:
                _log.warning("%d lines of the access log are lost: %s", self._lost_lines, error)
                self._lost_lines, self._warn_at = 0, time.monotonic() + _WARN_INTERVAL_S
            # The next handler reopens the file, so that no partial line stays in a buffer.
            return None
        return handler


class _Handler(RotatingFileHandler):
    """The standard library's rotation with a batch of lines per record. Errors are raised to the caller."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8", errors="replace")
        if self.stream is not None and self.stream.tell() and not _ends_with_newline(path):
            # A full disk or a power cut may have left a partial line.
            self.stream.write("\n")

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self.close()
        raise  # re-raises the error that `emit` caught


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def _format_line(line: Line) -> str:
    """Formats the line by hand, because a JSON library costs more than the text itself."""
    (ended_at, request_id, client, key, method, route, model, status, seconds, ttft,
     prompt_tokens, completion_tokens, stream, sent_bytes, fault) = line  # fmt: skip
    second = int(ended_at)
    return (
        f'{{"time":"{_format_second(second)}.{int((ended_at - second) * 1000):03d}Z","id":"{request_id.decode()}",'
        f'"client":{quoted(client)},"key":{quoted(key)},"method":{quoted(method)},"route":{quoted(route)},'
        f'"model":{quoted(model)},"status":{status},"seconds":{seconds:.4f},"prompt_tokens":{prompt_tokens},'
        f'"completion_tokens":{completion_tokens},"stream":{"true" if stream else "false"},"bytes":{sent_bytes}'
        + (f',"ttft":{ttft:.4f}' if ttft is not None else "")
        + (f',"fault":{quoted(fault)}}}' if fault else "}")
    )


@lru_cache(maxsize=4)
def _format_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
