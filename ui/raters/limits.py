"""Limits of open links: how many raters may start from one network address, and how fast one voter may send."""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta

RATERS_PER_ADDRESS = 60
PER_TIME = timedelta(hours=1)
_PER_MINUTE = 120  # requests: a vote, its next pair, and some more
_MOST_KEYS = 20_000


class RateLimit:
    """A token bucket for each key, in memory: a restart resets it."""

    def __init__(self, per_minute: int = _PER_MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, key: str) -> bool:
        """Whether this key may send one more request now; it counts if so."""
        now = self._clock()
        tokens, at = self._buckets.pop(key, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - at) * self._per_minute / 60)
        allowed = tokens >= 1
        self._buckets[key] = (tokens - 1 if allowed else tokens, now)
        if len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)
        return allowed
