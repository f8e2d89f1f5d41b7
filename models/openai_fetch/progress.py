"""The progress of a fetch on standard error: one line that changes in a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from models.openai_fetch.account import printable

_REDRAWN_S = 0.2
_LINE_S = 15.0


class Progress:
    """What is fetched at the moment; silent if `quiet`. Threads may add bytes and notes."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet, self._bar = quiet, self._stream.isatty()
        self._title, self._done, self._total, self._bytes = "", 0, 0, 0
        self._shown = time.monotonic()
        self._mutex = threading.RLock()

    def begin(self, title: str, total: int = 0) -> None:
        """Begins a part of the fetch, of `total` objects if that is known."""
        with self._mutex:
            self._title, self._done, self._total, self._bytes = title, 0, total, 0

    def add(self, objects: int = 1) -> None:
        """Counts objects."""
        with self._mutex:
            self._done += objects
            self._show()

    def add_bytes(self, size: int) -> None:
        """Counts bytes of contents."""
        with self._mutex:
            self._bytes += size
            self._show()

    def end(self) -> None:
        """Ends a part, with a line that says how much it was."""
        with self._mutex:
            if self._title and self._done:
                self._line(self._text())
            self._title = ""

    def note(self, text: str) -> None:
        """Prints a line."""
        with self._mutex:
            self._line(printable(text, 400))

    def _show(self) -> None:
        now = time.monotonic()
        if self._quiet or now - self._shown < (_REDRAWN_S if self._bar else _LINE_S):
            return
        self._shown = now
        if self._bar:
            self._stream.write(f"\r\x1b[K{self._text()}")
            self._stream.flush()
        else:
            self._line(self._text())

    def _text(self) -> str:
        text = f"{self._title}: {self._done:,}" + (f" of {self._total:,}" if self._total else "")
        if self._total and self._bar:
            full = 24 * min(self._done, self._total) // self._total
            text = f"{text}  {'━' * full}{'┄' * (24 - full)}"
        return text + (f"  {self._bytes / 1e6:,.1f} MB" if self._bytes else "")

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(("\r\x1b[K" if self._bar else "") + text + "\n")
            self._stream.flush()
