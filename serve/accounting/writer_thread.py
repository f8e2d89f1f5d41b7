"""A thread that writes what the event loop has recorded, so that no request waits for a database or a disk."""

import threading


class WriterThread:
    """Writes at an interval, and once more at the stop. Subclasses write in `_write`."""

    interval_s, stop_s = 1.0, 10.0

    def __init__(self, name: str) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Writes the rest and stops the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self.stop_s)

    def _run(self) -> None:
        while not self._stop.wait(self.interval_s):
            self._write()
        self._write()
        self._close()

    def _write(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        """Called after the last write."""
