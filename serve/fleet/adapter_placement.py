"""Which replicas of a base load which of its adapters.

An adapter is loaded on one replica, and on one more each time the gateway requests it because those are busy. So each
replica has few adapters in its slots and in its prefix cache.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b

from models.spec import LONGEST_REPLICATED_ID, ModelSpec


class AdapterPlacement:
    """The number of replicas that each adapter should be on."""

    def __init__(self) -> None:
        self._spread: dict[str, int] = {}

    def spread(self, adapter: str) -> None:
        """Places an adapter on one more replica."""
        self._spread[adapter] = self._spread.get(adapter, 1) + 1

    def wanted_on(
        self, number: int, adapters: Mapping[str, ModelSpec], ready: Collection[int], loaded: Collection[str]
    ) -> dict[str, ModelSpec]:
        """The adapters that a replica should serve.

        An adapter whose replica is not ready is placed on another one. A loaded adapter stays loaded while it is
        registered, so that no request for it fails when its first replica is back.

        Args:
            number: the replica's number. adapters: its base's adapters, by name.
            ready: the numbers of the base's ready replicas. loaded: the adapters that this replica has loaded.
        """
        return {
            name: spec
            for name, spec in adapters.items()
            if name in loaded or number in self._replicas_for(name, ready or {1})
        }

    def _replicas_for(self, adapter: str, ready: Collection[int]) -> list[int]:
        """Replicas in the order of a hash (rendezvous hashing): when one leaves, only its own adapters move."""
        if len(adapter) > LONGEST_REPLICATED_ID:
            return [1]
        order = sorted(ready, key=lambda number: _rank(adapter, number))
        return order[: self._spread.get(adapter, 1)]


@lru_cache(maxsize=2**16)
def _rank(adapter: str, number: int) -> bytes:
    return blake2b(f"{adapter}#{number}".encode(), digest_size=8).digest()
