"""Circuit breakers: an upstream that fails again and again is left alone for a while, and then tried with one request.

A breaker's states and names are those of M. Nygard's «Release It!» (2007). It counts verdicts and knows no HTTP.
"""

import time
from collections.abc import Callable

from serve.gateway.upstream_errors import Down

_IN_A_ROW = 5
_LATEST, _SHARE = 20, 0.5  # of so many verdicts, half are failures
_REST_S, _LONGEST_REST_S = 5.0, 60.0


class Breaker:
    """One upstream's. `enter` before each request; then one of `succeeded`, `failed` and `nothing`."""

    __slots__ = ("_latest", "_probing", "_rest_s", "_row", "_seen", "_tell", "_until", "name")

    def __init__(self, name: str, tell: Callable[[str, str], None]) -> None:
        """`tell` is called with the name and `open`, `half_open` or `closed` whenever that changes."""
        self.name = name
        self._tell = tell
        self._row = 0  # failures since the last success
        self._latest = 0  # a bit for each of the latest verdicts, 1 for a failure
        self._seen = 0
        self._until: float | None = None  # open until then; half open after it
        self._rest_s = _REST_S
        self._probing = False

    def enter(self) -> None:
        """Lets a request through.

        Raises:
            Down: the breaker is open, or half open with its probe on the way.
        """
        if self._until is None:
            return
        left = self._until - time.monotonic()
        if left <= 0 and not self._probing:
            self._probing = True
            self._tell(self.name, "half_open")
            return
        raise Down(
            f"The server of {self.name!r} failed again and again, and is left alone for a while.",
            code="upstream_error",
            retry_after=max(left, 1.0),
        )

    def succeeded(self) -> None:
        """The upstream answered."""
        if self._until is not None:
            self._until, self._probing, self._rest_s = None, False, _REST_S
            self._latest = self._seen = 0
            self._tell(self.name, "closed")
        self._row = 0
        self._note(0)

    def failed(self) -> None:
        """It did not, or with a fault of its own."""
        self._row += 1
        self._note(1)
        if self._until is not None:
            if self._probing:
                self._rest_s = min(self._rest_s * 2, _LONGEST_REST_S)
                self._open()
            return
        share = self._latest.bit_count() / _LATEST if self._seen >= _LATEST else 0
        if self._row >= _IN_A_ROW or share >= _SHARE:
            self._open()

    def nothing(self) -> None:
        """The request ended without a verdict: its client left."""
        self._probing = False

    def _note(self, failure: int) -> None:
        self._latest = (self._latest << 1 | failure) & ((1 << _LATEST) - 1)
        self._seen += 1

    def _open(self) -> None:
        self._until, self._probing = time.monotonic() + self._rest_s, False
        self._tell(self.name, "open")
