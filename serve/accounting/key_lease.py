"""What a gateway may still admit for one key before it exchanges its lease. Only the event loop uses it."""

import math

from serve.accounting.leases import NOTHING, Amounts, Claim, Grant

_LEAST_S = 0.25  # the rate of a shorter time says little
_AHEAD_S = 1.0
_KEPT_S = 10.0
_REFUSAL_S = 0.1


class KeyLease:
    """The lease of one key. `amounts` is what is left of it; `waiting` is what waiting requests need."""

    __slots__ = (
        "_last",
        "_low",
        "_rate",
        "_running",
        "_since",
        "_spent",
        "_used_at",
        "_waiters",
        "amounts",
        "granted",
        "refused_until",
        "settled",
        "waiting",
    )

    def __init__(self, now: float, used: Amounts) -> None:
        """`used`: what this gateway has admitted without a lease so far."""
        self.amounts = NOTHING.minus(used)
        self.waiting = self.settled = self._spent = self._last = self._low = self._running = self._rate = NOTHING
        self.refused_until = -math.inf  # an exchange before this time would grant nothing more
        self._since = self._used_at = now
        self._waiters = 0
        self.granted = False

    def covers(self, need: Amounts) -> bool:
        """Whether the lease is enough for a request."""
        left = self.amounts
        # Written out, because every request of a limited key comes here.
        return (
            (left[0] >= need[0] or not need[0])
            and (left[1] >= need[1] or not need[1])
            and (left[2] >= need[2] or not need[2])
            and (left[3] >= need[3] or not need[3])
        )

    def lacks(self, need: Amounts) -> str:
        """What a request must be refused for: `requests`, `tokens`, `day`, or nothing. The last of a budget may be
        exceeded by one request, as without leases.
        """
        if need.requests and self.amounts.requests < need.requests:
            return "requests"
        if need.tokens and self.amounts.tokens < need.tokens:
            return "tokens"
        left = self.amounts
        return "day" if (need.day_tokens and left.day_tokens <= 0) or (need.usd and left.usd <= 0) else ""

    def wait(self, need: Amounts) -> None:
        """A request waits for the next exchange."""
        self.waiting, self._waiters = self.waiting.plus(need), self._waiters + 1

    def stop_waiting(self, need: Amounts) -> None:
        """A request waits no longer."""
        self._waiters -= 1
        # Without what adding and subtracting leaves over.
        self.waiting = self.waiting.minus(need) if self._waiters else NOTHING

    def spend(self, amounts: Amounts) -> None:
        """A request was admitted."""
        self.amounts, self._spent, self._last = self.amounts.minus(amounts), self._spent.plus(amounts), amounts

    def settle(self, unused: Amounts, used: Amounts) -> None:
        """A request has ended. `unused`: what of its estimate is left over; `used`: what counts for the day."""
        self.amounts, self.settled = self.amounts.plus(unused), self.settled.plus(used)

    @property
    def runs_low(self) -> bool:
        """Whether it is time to exchange the lease, before a request has to wait for it."""
        left, low = self.amounts, self._low
        return left[0] < low[0] or left[1] < low[1] or left[2] < low[2] or left[3] < low[3]

    @property
    def idle(self) -> bool:
        """Whether there is nothing to exchange."""
        return not any(map(any, (self.amounts, self.waiting, self._spent, self._running)))

    def claim(self, now: float, limits: Amounts, running: Amounts) -> Claim:
        """The claim for the next exchange, which starts now."""
        seconds = now - self._since
        want = Amounts(*(spent / max(seconds, _LEAST_S) * _AHEAD_S for spent in self._spent))
        if any(self._spent):
            self._used_at = now
        if seconds >= _LEAST_S:
            self._rate, self._since, self._spent = want, now, NOTHING
        else:
            want = Amounts(*map(max, want, self._rate))
        self._running = running
        if now - self._used_at < _KEPT_S:
            # Another request like the last one, so that an occasional one does not wait either.
            want = Amounts(*map(max, want, self._last))
        return Claim(limits, self.amounts, self.waiting, want, running)

    def apply(self, now: float, claim: Claim, grant: Grant) -> None:
        """Takes the new lease. What was admitted during the exchange is taken off it."""
        self.granted = True
        self.amounts = grant.lease.minus(claim.lease.minus(self.amounts))
        self._low = Amounts(*(amount / 2 for amount in grant.lease))
        if not all(granted >= needed for granted, needed in zip(grant.lease, claim.need, strict=True)):
            self.refused_until = now + _REFUSAL_S
