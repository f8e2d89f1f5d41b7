"""Remembers which battle each voter has open, so that a reload shows the same one again."""

from collections import OrderedDict

from evals.campaigns.battles import Battle

_MAX_BATTLES = 5000


class OpenBattles:
    """The open battle of each voter. Kept in memory only: losing it costs the voter one unfinished comparison."""

    def __init__(self, limit: int = _MAX_BATTLES) -> None:
        self._limit = limit
        self._battles: OrderedDict[str, Battle] = OrderedDict()

    def get(self, voter: str) -> Battle | None:
        """This voter's open battle."""
        return self._battles.get(voter)

    def put(self, voter: str, battle: Battle) -> None:
        """Stores the voter's open battle; beyond the limit the oldest ones are dropped."""
        self._battles[voter] = battle
        self._battles.move_to_end(voter)
        while len(self._battles) > self._limit:
            self._battles.popitem(last=False)

    def close(self, voter: str, battle_id: str) -> None:
        """Removes the battle once it has a vote."""
        if (battle := self._battles.get(voter)) is not None and battle.id == battle_id:
            del self._battles[voter]
