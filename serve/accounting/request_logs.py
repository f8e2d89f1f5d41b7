"""The gateway's two logs: the usage of keys and models in the database, and the access log, without any content.

Both are written by threads, so that no request waits for a database or a disk: the event loop only appends to a queue.
A SIGKILL loses at most a second, a stop loses nothing. While the database does not answer, usage goes to a file.
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

from models.database import Database, new_ulid
from models.errors import ParleyError
from models.usage import NO_KEY, Batch, Slot, Sums, add_usage
from serve.accounting.usage_file import NamedSums, UsageFile
from serve.accounting.writer_thread import WriterThread

_DAY_S = 86_400
_WARN_INTERVAL_S = 60.0
_FILE_BYTES = 32 * 2**20
_OLD_FILES = 4
_ADOPT_INTERVAL_S = 60.0
_MAX_WAITING = 200_000  # lines kept while a disk hangs: about 60 MB
_log = logging.getLogger("parley.gateway")
_Entry = tuple[int, str, str, bool, int, int, float]


# One request: end time (seconds since the epoch), id, client address, key name, method, route, model id, status,
# seconds, seconds to the first piece of a stream, prompt and completion tokens, whether it streamed, bytes of the
# response body, stream fault. A plain tuple, because a named one costs as much as everything else here.
Line = tuple[float, bytes, str, str, str, str, str, int, float, float | None, int, int, bool, int, str]


class UsageLog(WriterThread):
    """Records usage. `record` is for the event loop, the rest for the process's start and end.

    While the database is unreachable, the sums stay in memory and in a file, from which the next process at the same
    place takes them. They are per key, model and day, so they stay small.
    """

    def __init__(self, database: Database, place: str = "", path: Path | None = None) -> None:
        """`place`: where the gateway runs, the same after a restart. `path`: the file for unwritten usage."""
        super().__init__("usage")
        self._database, self._place = database, place
        self._file = UsageFile(path) if path is not None else None
        self._pending: deque[_Entry] = deque()
        self._sums: dict[Slot, Sums] = {}
        # What is being written. If that fails, it is repeated unchanged, because it may have been stored.
        self._batch: NamedSums | None = None
        self._flushing, self._summing = threading.Lock(), threading.Lock()
        self._saver = threading.Thread(target=self._save_regularly, name="usage-file", daemon=True)
        self._flush_began: float | None = None
        self._adopt_at = 0.0
        self._failed = False

    def start(self) -> None:
        """Takes up what an earlier process could not write, and starts the threads."""
        if self._file is not None:
            self._file.open()
            self._load(self._file)
            self._saver.start()
        super().start()

    def _load(self, file: UsageFile) -> None:
        """Takes up a file: this process's own, or that of one that has ended. Nothing is being written meanwhile."""
        with self._flushing, self._summing:
            if self._batch is None and not self._sums:
                self._batch, self._sums = file.load()
                if self._batch is None and not self._sums and file.adopt():
                    self._batch, self._sums = file.load()

    def record(
        self, key_id: str | None, model_id: str, prompt: int, completion: int, ok: bool, usd: float = 0.0
    ) -> None:
        """Records a finished request, in tokens; `usd` is its cost if the model is hosted."""
        # Days are in UTC: a request counts for the day in which it ends.
        self._pending.append((int(time.time()) // _DAY_S, key_id or NO_KEY, model_id, ok, prompt, completion, usd))

    def flush(self) -> None:
        """Writes all entries recorded so far and keeps them if that fails. Callable from any thread.

        Raises:
            ParleyError: the database does not answer.
        """
        with self._flushing:
            self._write_batch()  # the one that failed last time
            with self._summing:
                self._sum_pending()
                if self._sums:
                    self._batch, self._sums = (Batch(self._place, new_ulid()), self._sums), {}
            self._write_batch()
            if self._file is not None:
                with self._summing:  # not while it is being saved
                    self._file.delete()

    def _write_batch(self) -> None:
        if self._batch is None:
            return
        name, sums = self._batch
        self._flush_began = time.monotonic()
        try:
            add_usage(self._database, sums, name if name.writer else None)
        finally:
            self._flush_began = None
        with self._summing:
            self._batch = None

    def stop(self) -> None:
        """Writes the rest, to the file if the database does not answer, and stops the threads."""
        super().stop()
        if self._thread.is_alive():
            self._save()
        if self._file is not None:
            self._file.close()

    def _save_regularly(self) -> None:
        while not self._stop.wait(self.interval_s):
            began = self._flush_began
            if self._failed or (began is not None and time.monotonic() - began > self.interval_s):
                self._save()

    def _save(self) -> bool:
        """Writes to the file what is not in the database. Returns whether that worked."""
        if self._file is None:
            return False
        with self._summing:
            self._sum_pending()
            return not (self._batch or self._sums) or self._file.save(self._batch, self._sums)

    def _sum_pending(self) -> None:
        new_sums: dict[tuple[int, str, str], Sums] = {}
        for _ in range(len(self._pending)):
            day, key_id, model_id, ok, prompt, completion, usd = self._pending.popleft()
            sums = new_sums.get((day, key_id, model_id))
            if sums is None:
                slot = Slot(datetime.fromtimestamp(day * _DAY_S, UTC).date(), key_id, model_id)
                sums = new_sums[day, key_id, model_id] = self._sums.setdefault(slot, Sums())
            sums.requests += 1
            sums.failed += not ok
            sums.prompt_tokens += prompt
            sums.completion_tokens += completion
            sums.usd += usd

    def _write(self) -> None:
        """Flushes. Only the first of several failures is logged."""
        failed = self._failed
        try:
            self.flush()
            self._failed = False
            if self._file is not None and (failed or time.monotonic() > self._adopt_at):
                self._adopt_at = time.monotonic() + _ADOPT_INTERVAL_S
                self._load(self._file)
        except ParleyError as error:
            self._failed = True
            if not failed:
                _log.warning("usage cannot be written to the database and is kept for now: %s", error)
        except Exception:
            self._failed = True
            if not failed:
                _log.exception("writing the usage failed")

    def _close(self) -> None:
        unwritten = [*(self._batch[1] if self._batch else {}).values(), *self._sums.values()]
        count = sum(sums.requests for sums in unwritten)
        if count and self._save():
            _log.warning("the usage of %d requests is in a file and will be written after the next start", count)
        elif count:
            _log.error("the usage of %d requests is lost: the database did not answer before the shutdown", count)


class AccessLog(WriterThread):
    """Writes `logs/access.log`, one JSON line per request, rotated by size. `line` is for the event loop.

    If the disk is full or missing, lines are lost, not requests.
    """

    interval_s, stop_s = 0.5, 5.0

    def __init__(self, path: Path) -> None:
        super().__init__("access-log")
        self._path = path
        self._handler: _Handler | None = None
        self._waiting: deque[Line] = deque(maxlen=_MAX_WAITING)
        self._lost_lines, self._warn_at = 0, 0.0
        # Logs a request. A bound method saves a call.
        self.line = self._waiting.append

    def _write(self) -> None:
        lines = [_format_line(self._waiting.popleft()) for _ in range(len(self._waiting))]
        if not lines:
            return
        try:
            self._handler = self._handler or _Handler(self._path)
            self._handler.emit(logging.makeLogRecord({"msg": "\n".join(lines), "levelno": logging.INFO}))
        except OSError as error:
            self._lost_lines += len(lines)
            if time.monotonic() >= self._warn_at:
                _log.warning("%d lines of the access log are lost: %s", self._lost_lines, error)
                self._lost_lines, self._warn_at = 0, time.monotonic() + _WARN_INTERVAL_S
            # The next handler reopens the file, so that no partial line stays in a buffer.
            self._handler = None

    def _close(self) -> None:
        if self._handler is not None:
            self._handler.close()


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
