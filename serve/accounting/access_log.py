"""The access log: one JSON line for each request, without a word of its contents. Written by a thread, kept by size.

`line` only puts a tuple into a queue in memory: the event loop never waits for a disk, and a disk that is full or away
costs lines, never requests.
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

_EVERY_S = 0.5
_STOP_S = 5.0
_TELL_EVERY_S = 60.0
_FILE_BYTES = 32 * 2**20
_OLD_FILES = 4
_MOST_WAITING = 200_000  # lines of a disk that hangs: about 60 MB
_log = logging.getLogger("parley.gateway")


# One request: when it ended (seconds of the epoch), its number, the client's address, the key's name, method, route,
# model's id, status, seconds, seconds to a stream's first piece, tokens read and written, whether it streamed, bytes of
# the answer's body, how a stream broke. A plain tuple, because making a named one costs as much as all the rest.
Line = tuple[float, bytes, str, str, str, str, str, int, float, float | None, int, int, bool, int, str]


class AccessLog:
    """Writes `logs/access.log`. `line` is for the event loop, the rest for the process's start and end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[Line] = deque(maxlen=_MOST_WAITING)
        self._lost, self._tell_at = 0, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        # What logs a request, for whoever has one: a bound method costs a call less.
        self.line = self._waiting.append

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left, and ends."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        handler: _Handler | None = None
        while True:
            over = self._stop.wait(_EVERY_S)
            if self._waiting:
                handler = self._write(handler)
            if over:
                break
        if handler is not None:
            handler.close()

    def _write(self, handler: "_Handler | None") -> "_Handler | None":
        lines = [_json(self._waiting.popleft()) for _ in range(len(self._waiting))]
        text = "\n".join(lines)
        try:
            handler = handler or _Handler(self._path)
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
        except OSError as error:
            self._lost += len(lines)
            if time.monotonic() >= self._tell_at:
                _log.warning("%d lines of the access log are lost: %s", self._lost, error)
                self._lost, self._tell_at = 0, time.monotonic() + _TELL_EVERY_S
            # A handler of the next round opens the file anew: nothing half-written stays in this one's buffer.
            return None
        return handler


class _Handler(RotatingFileHandler):
    """The standard library's rotation, a batch of lines at a time; a fault is the caller's to tell."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8", errors="replace")
        if self.stream is not None and self.stream.tell() and not _ends_whole(path):
            # A disk that was full, or a power cut, has left half a line.
            self.stream.write("\n")

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            self.close()
        raise  # what `emit` has caught: this is called there


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"


def _json(line: Line) -> str:
    """By hand: a JSON library's buffer for so short a text costs more than the text."""
    (when, number, client, key, method, route, model, status, seconds, ttft,
     prompt_tokens, completion_tokens, stream, size, fault) = line  # fmt: skip
    second = int(when)
    return (
        f'{{"time":"{_moment(second)}.{int((when - second) * 1000):03d}Z","id":"{number.decode()}",'
        f'"client":{quoted(client)},"key":{quoted(key)},"method":{quoted(method)},"route":{quoted(route)},'
        f'"model":{quoted(model)},"status":{status},"seconds":{seconds:.4f},"prompt_tokens":{prompt_tokens},'
        f'"completion_tokens":{completion_tokens},"stream":{"true" if stream else "false"},"bytes":{size}'
        + (f',"ttft":{ttft:.4f}' if ttft is not None else "")
        + (f',"fault":{quoted(fault)}}}' if fault else "}")
    )


@lru_cache(maxsize=4)
def _moment(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
