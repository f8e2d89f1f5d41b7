"""How many requests of a bulk run are in flight: a fixed number, or as many as keep the server full and not more."""

import time
from collections.abc import Callable
from typing import Protocol

START, MAX = 64, 512  # the throughput of a small engine levels off at 64
_WINDOW_S, _ROUNDS = 1.0, 2  # a rate is measured over a second, and over two answers for each request in flight
_GROWTH = 1.5
_GAIN = 1.05  # the smallest improvement that justifies more requests in flight
_DECREASE, _DECREASE_PAUSE_S = 0.7, 1.0
_HOLD = 16  # windows after which more requests are tried again


class Concurrency(Protocol):
    """The number of requests in flight."""

    limit: int

    def answered(self, tokens: int) -> None:
        """A request was answered with that many tokens."""
        ...

    def refused(self) -> None:
        """The server was too busy for a request."""
        ...


class FixedConcurrency:
    """Always the same number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def answered(self, tokens: int) -> None:
        """Changes nothing."""

    def refused(self) -> None:
        """Changes nothing."""


class AdaptiveConcurrency:
    """Climbs while the throughput grows, and gives way at once where the server is too busy.

    It begins with one request, so that a model that has to start first, or does not work, is not sent dozens. More
    requests than the throughput needs would only delay other clients of the same engine.
    """

    def __init__(self, most: int = MAX, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = 1
        self._most, self._clock = most, clock
        self._started = False
        self._before = 0  # the limit before the last increase, if its effect is not known yet
        self._rate = 0.0
        self._hold = 0
        self._decreased_at = -_DECREASE_PAUSE_S
        self._begin_window()

    def answered(self, tokens: int) -> None:
        """Counts an answer, and decides at the end of a window."""
        if not self._started:
            self._started, self.limit = True, min(START, self._most)
            self._begin_window()
            return
        self._answers += 1
        self._tokens += max(tokens, 1)
        seconds = self._clock() - self._began
        if self._answers >= _ROUNDS * self.limit and seconds >= _WINDOW_S:
            self._decide(self._tokens / seconds)
            self._begin_window()

    def refused(self) -> None:
        """Decreases the limit, at most once a second: the requests in flight are refused together."""
        now = self._clock()
        if now - self._decreased_at < _DECREASE_PAUSE_S:
            return
        self._decreased_at = now
        self.limit = max(int(self.limit * _DECREASE), 1)
        self._before, self._rate, self._hold = 0, 0.0, _HOLD
        self._begin_window()

    def _decide(self, rate: float) -> None:
        if self._hold:
            self._hold -= 1
            self._rate = rate  # other clients come and go
            return
        if self._before and rate < self._rate * _GAIN:
            self.limit, self._before, self._hold = self._before, 0, _HOLD
            return
        self._rate = rate
        grown = min(max(int(self.limit * _GROWTH), self.limit + 1), self._most)
        self._before = self.limit if grown > self.limit else 0
        self.limit = grown

    def _begin_window(self) -> None:
        self._began, self._answers, self._tokens = self._clock(), 0, 0
