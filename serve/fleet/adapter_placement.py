"""Which replicas of a base load which of its adapters.

An adapter is loaded on one replica, and on one more each time the gateway requests it because those are busy. Without
a request for some minutes, it returns to one. So each replica has few adapters in its slots and in its prefix cache.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b

from models.spec import LONGEST_REPLICATED_ID, ModelSpec

# The gateway reports an adapter's use once a minute at most.
IDLE_S = 300.0


class AdapterPlacement:
    """The number of replicas that each adapter should be on. It reads no clock."""

    def __init__(self) -> None:
        self._spread: dict[str, int] = {}
        self._used: dict[str, float] = {}  # adapters on several replicas
        self._idle: set[str] = set()

    def spread(self, adapter: str) -> None:
        """Places an adapter on one more replica."""
        self._spread[adapter] = self._spread.get(adapter, 1) + 1

    def follow_use(self, copies: Mapping[str, int], used: Collection[str], now: float) -> None:
        """Returns adapters to one replica that had no request for `IDLE_S`.

        Args:
            copies: adapter → the number of replicas that have loaded it. used: the adapters that were requested.
            now: a monotonic time in seconds.
        """
        self._used = {
            name: now if name in used else self._used.get(name, now) for name, count in copies.items() if count > 1
        }
        self._idle = {name for name, moment in self._used.items() if now - moment > IDLE_S}
        for name in self._idle:
            self._spread.pop(name, None)

    def wanted_on(
        self,
        number: int,
        adapters: Mapping[str, ModelSpec],
        ready: Collection[int],
        loaded: Mapping[int, Collection[str]],
    ) -> dict[str, ModelSpec]:
        """The adapters that a replica should serve.

        An adapter whose replica is not ready is placed on another one. A loaded adapter stays loaded while it is
        registered and requested, so that no request for it fails when its first replica is back.

        Args:
            number: the replica's number. adapters: its base's adapters, by name.
            ready: the numbers of the base's ready replicas. loaded: number of a replica → the adapters that it has
                loaded.
        """
        here = loaded.get(number, ())
        wanted = {}
        for name, spec in adapters.items():
            chosen = self._replicas_for(name, ready or {1})
            spare = name in self._idle and all(name in loaded.get(other, ()) for other in chosen)
            if number in chosen or (name in here and not spare):
                wanted[name] = spec
        return wanted

    def _replicas_for(self, adapter: str, ready: Collection[int]) -> list[int]:
        """Replicas in the order of a hash (rendezvous hashing): when one leaves, only its own adapters move."""
        if len(adapter) > LONGEST_REPLICATED_ID:
            return [min(ready)]
        order = sorted(ready, key=lambda number: _rank(adapter, number))
        return order[: self._spread.get(adapter, 1)]


@lru_cache(maxsize=2**16)
def _rank(adapter: str, number: int) -> bytes:
    return blake2b(f"{adapter}#{number}".encode(), digest_size=8).digest()
