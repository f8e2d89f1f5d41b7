"""What one key has used of its limits, as a gateway counts it."""

from typing import NamedTuple

from models.keys import NO_LIMITS, KeyLimits
from models.usage import Sums
from serve.accounting.key_lease import KeyLease
from serve.accounting.leases import Amounts, Claim, Grant
from serve.transport.asgi import Headers


class OpenClaim(NamedTuple):
    """A claim that waits for its grant, its lease, and what the lease had settled when the claim was made."""

    claim: Claim
    lease: KeyLease
    settled: Amounts


class KeyAccount:
    """What one key has used. `requests` and `tokens` are missing from its buckets as of the time `at`.

    Also holds the key's limits in the form that the hot path needs: 0 for none, and the headers that never change.
    `lease`: None unless the limits are shared. `others_tokens` and `others_usd` of the day belong to other gateways.
    """

    __slots__ = (
        "at", "daily", "day", "held_tokens", "held_usd", "lease", "limit_requests_header", "limit_tokens_header",
        "limits", "others_tokens", "others_usd", "recorded", "requests", "rpm", "today_tokens", "today_usd", "tokens",
        "tpm",
    )  # fmt: skip

    def __init__(self, at: float, day: int, used: Sums | None) -> None:
        self.at, self.day = at, day
        self.requests = self.tokens = 0.0
        self.today_tokens, self.today_usd = (used.tokens, used.usd) if used else (0, 0.0)
        self.held_tokens, self.held_usd = 0, 0.0
        self.others_tokens = self.others_usd = 0.0
        self.lease: KeyLease | None = None
        self.recorded = (at, 0.0, 0.0)  # when the last lease ended, and what of `requests` and `tokens` it knew
        self.set_limits(NO_LIMITS)

    def set_limits(self, limits: KeyLimits, parts: int = 1) -> None:
        """Sets the key's limits, those of a minute divided by `parts`."""
        self.limits = limits
        self.rpm, self.tpm = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
        if parts > 1:
            self.rpm, self.tpm = (max(limit // parts, 1) if limit else 0 for limit in (self.rpm, self.tpm))
        self.daily = limits.daily_tokens is not None or limits.daily_usd is not None
        self.limit_requests_header = (b"x-ratelimit-limit-requests", b"%d" % self.rpm)
        self.limit_tokens_header = (b"x-ratelimit-limit-tokens", b"%d" % self.tpm)

    def start_day(self, day: int) -> None:
        """Starts a new day. Running requests count for it when they finish."""
        self.day, self.today_tokens, self.today_usd = day, 0, 0.0
        self.others_tokens = self.others_usd = 0.0

    def refill(self, now: float) -> None:
        """Refills the buckets up to now."""
        minutes, self.at = (now - self.at) / 60, now
        self.requests = max(self.requests - minutes * self.rpm, 0.0) if self.rpm else 0.0
        self.tokens = max(self.tokens - minutes * self.tpm, 0.0) if self.tpm else 0.0

    def start_lease(self, now: float) -> None:
        """Starts with a lease that owes what was admitted since the last one."""
        at, requests, tokens = self.recorded
        minutes = (now - at) / 60
        owed = Amounts(
            max(self.requests - max(requests - minutes * self.rpm, 0.0), 0.0),
            max(self.tokens - max(tokens - minutes * self.tpm, 0.0), 0.0),
        )
        self.set_limits(self.limits)
        self.lease = KeyLease(now, owed)

    def end_lease(self, now: float, parts: int) -> None:
        """Goes on without a lease, with an equal part of each limit."""
        limits, lease, self.lease = self.limits, self.lease, None
        self.set_limits(limits, parts)
        if parts > 1 and lease is not None and not lease.granted:
            return  # the database never knew of it: the last part goes on
        self.requests, self.tokens = self.requests / parts, self.tokens / parts
        self.recorded = (now, self.requests, self.tokens)
        if parts == 1:
            self.others_tokens = self.others_usd = 0.0
            return
        # Of what is left of a budget, each gateway has an equal part too.
        tokens = (limits.daily_tokens or 0) - self.today_tokens - self.held_tokens - self.others_tokens
        usd = (limits.daily_usd or 0.0) - self.today_usd - self.held_usd - self.others_usd
        self.others_tokens += max(tokens, 0.0) * (parts - 1) / parts
        self.others_usd += max(usd, 0.0) * (parts - 1) / parts

    def need(self, tokens: int, usd: float, *, batch: bool = False) -> Amounts:
        """What of a lease a request with these estimates needs. A row of a batch needs nothing of the limits per
        minute.
        """
        limits = self.limits
        return Amounts(
            1 if self.rpm and not batch else 0,
            tokens if self.tpm and not batch else 0,
            tokens if limits.daily_tokens is not None else 0,
            usd if limits.daily_usd is not None else 0.0,
        )

    def claim(self, lease: KeyLease, now: float) -> Claim:
        """The claim for an exchange of the lease."""
        limits = self.limits
        amounts = Amounts(self.rpm, self.tpm, limits.daily_tokens or 0, limits.daily_usd or 0.0)
        return lease.claim(now, amounts, Amounts(0, 0, self.held_tokens, round(self.held_usd, 9)))

    def apply(self, opened: OpenClaim, grant: Grant, now: float, day: int) -> None:
        """Takes the grant of a claim that was made on a day."""
        lease = opened.lease
        lease.apply(now, opened.claim, grant)
        self.at = now
        self.requests = max(grant.missing.requests - lease.amounts.requests, 0.0) if self.rpm else 0.0
        self.tokens = max(grant.missing.tokens - lease.amounts.tokens, 0.0) if self.tpm else 0.0
        if self.day == day and self.daily:
            since = lease.settled.minus(opened.settled)
            self.today_tokens = round(grant.today.day_tokens + since.day_tokens)
            self.today_usd = grant.today.usd + since.usd
            self.others_tokens, self.others_usd = grant.others.day_tokens, grant.others.usd

    def rate_limit_headers(self) -> Headers:
        """The rate limit headers in OpenAI's format, for the limits that the key has."""
        headers: Headers = []
        if self.rpm:
            used, limit = self.requests, self.rpm
            headers = [
                self.limit_requests_header,
                (b"x-ratelimit-remaining-requests", str(int(limit - used)).encode() if used < limit else b"0"),
                (b"x-ratelimit-reset-requests", _reset_time(used * 60_000 / limit)),
            ]
        if self.tpm:
            used, limit = self.tokens, self.tpm
            headers += (
                self.limit_tokens_header,
                (b"x-ratelimit-remaining-tokens", str(int(limit - used)).encode() if used < limit else b"0"),
                (b"x-ratelimit-reset-tokens", _reset_time(used * 60_000 / limit)),
            )
        return headers


def duration(seconds: float) -> str:
    """A duration in the format of OpenAI's headers: `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`."""
    ms = int(seconds * 1000 + 0.999999)  # rounded up, so that a client never retries too early
    if ms < 1000:
        return f"{ms}ms"
    whole, ms = divmod(ms, 1000)
    if whole < 60 and not ms:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    text = f"{rest}.{ms:03d}".rstrip("0") + "s" if ms else f"{rest}s"
    if minutes < 60:
        return f"{minutes}m{text}" if minutes else text
    return f"{minutes // 60}h{minutes % 60}m{text}"


def _reset_time(ms: float) -> bytes:
    return b"%dms" % int(ms + 0.999) if ms < 999 else duration(ms / 1000).encode()
