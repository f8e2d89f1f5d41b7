"""Reports when the head of a Ray cluster stops answering, and when it answers again."""

import time
from collections.abc import Callable

from serve.cluster.actor_process import accepts_connections

_INTERVAL_S = 2.0


class HeadWatch:
    """Checks the head every two seconds. `address`: HOST:PORT of its control service."""

    def __init__(self, address: str, report: Callable[[str], None]) -> None:
        self._address = address
        self._report = report
        self._answers = True
        self._checked_at = time.monotonic()

    def check(self) -> None:
        """Checks the head if two seconds have passed. Call it often; it may block for a second."""
        if time.monotonic() - self._checked_at < _INTERVAL_S:
            return
        self._checked_at = time.monotonic()
        host, _, port = self._address.rpartition(":")
        before, self._answers = self._answers, accepts_connections(host.strip("[]"), int(port))
        if before and not self._answers:
            self._report(
                f"the head of the Ray cluster ({self._address}) does not answer: running engines continue, but none "
                "can start. If it is not back within a minute (Ray's default), Ray ends Parley and the engines"
            )
        elif self._answers and not before:
            self._report("the head of the Ray cluster answers again")
