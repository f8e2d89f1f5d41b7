"""Rate limits and budgets of keys: requests and tokens per minute, tokens and money per day.

A limit per minute is a token bucket that holds one minute's worth and refills evenly, as OpenAI's does. Buckets are in
the memory of the gateway process and are full after a start. Days are in UTC; a day's usage is read from the usage
table at the start and counted here from then on.

Several gateways on one database share the limits (`RateLimiter.share`): each admits from its leases, and these numbers
are then its estimate of what all gateways have used. `serve.accounting.shared_limits` exchanges the leases.
"""

import math
import time
from collections.abc import Callable, Mapping

from models.database import Database, utcnow
from models.errors import Busy, Forbidden
from models.keys import NO_LIMITS, KeyInfo, KeyLimits, format_usd
from models.spec import ModelSpec
from models.usage import Sums, cost, daily_totals, has_price, is_free
from serve.accounting.key_account import KeyAccount, OpenClaim, duration
from serve.accounting.key_lease import KeyLease
from serve.accounting.leases import Amounts, Grant
from serve.transport.asgi import Headers

_DAY_S = 86_400
_BYTES_PER_TOKEN = 4
_SOON_S = 0.25  # when to try again, if leases of other gateways may come back


class RateLimited(Busy):
    """A limit is reached. The SDK waits as long as `retry-after` says, then retries."""


class TooManyRequests(RateLimited):
    """Over the key's requests per minute."""

    kind = "requests"


class TooManyTokens(RateLimited):
    """Over the key's tokens per minute."""

    kind = "tokens"


class BudgetSpent(RateLimited):
    """The day's budget is used up: a retry cannot help before midnight UTC."""

    kind = "insufficient_quota"


class Admission:
    """An admitted request. `headers` go out with its response; call `settle` once with its actual usage.

    `batch`: a row of a batch, to which the limits per minute do not apply.
    """

    __slots__ = ("_account", "_batch", "_limits", "_tokens", "_usd", "headers")

    def __init__(
        self,
        limits: "RateLimiter",
        account: KeyAccount | None,
        tokens: int,
        usd: float,
        headers: Headers,
        batch: bool = False,
    ) -> None:
        self._limits, self._account, self._tokens, self._usd = limits, account, tokens, usd
        self._batch = batch
        self.headers = headers

    def allows(self, spec: ModelSpec) -> bool:
        """Whether the key's daily US dollar budget allows a model other than the admitted one."""
        account = self._account
        if account is None or account.limits.daily_usd is None or is_free(spec):
            return True
        return account.today_usd + account.held_usd + account.others_usd - self._usd < account.limits.daily_usd

    def settle(self, prompt_tokens: int, completion_tokens: int, usd: float = 0.0) -> None:
        """Replaces the reservation by the actual usage. Further calls change nothing."""
        account = self._account
        if account is None:
            return
        self._account = None
        day = self._limits.day()
        if account.day != day:
            account.start_day(day)
        used, reserved = prompt_tokens + completion_tokens, self._tokens
        account.today_tokens += used
        account.today_usd += usd
        if reserved:
            # More than reserved leaves the bucket in debt; less is returned to it.
            if not self._batch:
                balance = account.tokens + used - reserved
                account.tokens = balance if balance > 0 else 0.0
            account.held_tokens -= reserved
            account.held_usd -= self._usd
            if account.lease is not None:
                unused = account.need(reserved - used, self._usd - usd, batch=self._batch)._replace(requests=0)
                account.lease.settle(unused, Amounts(0, 0, used, usd))


class RateLimiter:
    """Admits requests. For the event loop only; call `load` once before."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._accounts: dict[str, KeyAccount] = {}
        self._used: Mapping[str, Sums] = {}
        self._used_on = -1
        self._day, self._day_ends = -1, 0.0
        self._parts, self._leased = 1, False

    def load(self, database: Database) -> None:
        """Reads today's usage, so that a budget survives a restart. Raises ParleyError if the database is
        unreachable.
        """
        self._used_on = self.day()
        self._used = daily_totals(database, utcnow().date())

    def day(self) -> int:
        """The number of the current day."""
        now = self._wall_clock()
        if now >= self._day_ends:
            self._day = int(now) // _DAY_S
            self._day_ends = (self._day + 1) * _DAY_S
        return self._day

    def admit(
        self, key: KeyInfo | None, spec: ModelSpec, prompt_bytes: int, max_tokens: int | None, choices: int = 1
    ) -> Admission:
        """Admits a request and reserves its estimated tokens: a token per 4 bytes, plus its limit for each choice.

        Raises:
            TooManyRequests, TooManyTokens, BudgetSpent: a limit is reached. Forbidden: the model's price is unknown.
        """
        if key is None:
            return Admission(self, None, 0, 0.0, [])
        now, day, limits = self._clock(), self.day(), key.limits
        account = self._accounts.get(key.id) or self._add_account(key, now, day)
        if account.day != day:
            account.start_day(day)
        if account.limits is not limits:
            self._set_limits(account, limits)
        if limits is NO_LIMITS:
            return Admission(self, account, 0, 0.0, [])
        completion = max_tokens * choices if max_tokens is not None and max_tokens > 0 else 0
        tokens = prompt_bytes // _BYTES_PER_TOKEN + 1 + completion
        minutes = (now - account.at) / 60
        account.at = now
        used_requests, used_tokens = account.requests - minutes * account.rpm, account.tokens - minutes * account.tpm
        account.requests = used_requests = used_requests if used_requests > 0 and account.rpm else 0.0
        account.tokens = used_tokens = used_tokens if used_tokens > 0 and account.tpm else 0.0
        usd = 0.0
        if account.daily:
            _check_budgets(account, key, self._day_ends - self._wall_clock(), free=is_free(spec))
            if limits.daily_usd is not None:
                _check_price(key, spec)
                usd = cost(spec, tokens - completion, completion)
                account.held_usd += usd
        batch = key.batch
        if account.rpm and used_requests + 1 > account.rpm and not batch:
            account.held_usd -= usd
            raise _too_many_requests(account)
        if account.tpm and used_tokens + tokens > account.tpm and not batch:
            account.held_usd -= usd
            raise _too_many_tokens(account, tokens)
        if account.lease is not None:
            try:
                need = account.need(tokens, usd, batch=batch)
                _spend(account, account.lease, key, need, self._day_ends - self._wall_clock())
            except RateLimited:
                account.held_usd -= usd
                raise
        if not batch:
            account.requests = used_requests + 1
            account.tokens = used_tokens + tokens
        account.held_tokens += tokens
        return Admission(self, account, tokens, usd, account.rate_limit_headers(), batch)

    def share(self, parts: int, *, leased: bool) -> None:
        """Sets how `parts` gateways share the limits: by leases, or by an equal part for each while there are none."""
        if (parts, leased) == (self._parts, self._leased):
            return
        self._parts, self._leased = parts, leased
        for account in self._accounts.values():
            account.refill(self._clock())
            self._apply_share(account)

    def key_lease(
        self, key: KeyInfo, spec: ModelSpec, prompt_bytes: int, max_tokens: int | None, choices: int
    ) -> tuple[KeyLease, Amounts] | None:
        """The key's lease and what a request needs of it; None if it has no lease, or if an exchange cannot help."""
        now, day, limits = self._clock(), self.day(), key.limits
        if limits is NO_LIMITS or not self._leased:
            return None
        account = self._accounts.get(key.id) or self._add_account(key, now, day)
        if account.limits is not limits:
            self._set_limits(account, limits)
        lease = account.lease
        if lease is None or now < lease.refused_until:
            return None  # `admit` decides by what is left
        completion = max_tokens * choices if max_tokens is not None and max_tokens > 0 else 0
        prompt = prompt_bytes // _BYTES_PER_TOKEN + 1
        need = account.need(prompt + completion, cost(spec, prompt, completion), batch=key.batch)
        return None if account.tpm and need.tokens > account.tpm else (lease, need)

    def claims(self) -> dict[str, OpenClaim]:
        """Key id → claim of the leases to exchange now."""
        now = self._clock()
        return {
            name: OpenClaim(account.claim(lease, now), lease, lease.settled)
            for name, account in self._accounts.items()
            if (lease := account.lease) is not None and not (lease.idle and not account.held_tokens)
        }

    def apply_grants(self, claims: Mapping[str, OpenClaim], grants: Mapping[str, Grant], day: int) -> None:
        """Takes the grants of claims that were made on a day."""
        now = self._clock()
        for name, grant in grants.items():
            account, claim = self._accounts[name], claims[name]
            # Another lease has begun if the database did not answer meanwhile.
            if account.lease is claim.lease:
                account.apply(claim, grant, now, day)

    def _set_limits(self, account: KeyAccount, limits: KeyLimits) -> None:
        account.set_limits(limits)
        if self._parts > 1:
            self._apply_share(account)

    def _apply_share(self, account: KeyAccount) -> None:
        now = self._clock()
        if account.limits is NO_LIMITS:
            account.lease = None
        elif not self._leased:
            account.end_lease(now, self._parts)
        elif account.lease is None:
            account.start_lease(now)

    def _add_account(self, key: KeyInfo, now: float, day: int) -> KeyAccount:
        used = self._used.get(key.id) if day == self._used_on else None
        account = self._accounts[key.id] = KeyAccount(now, day, used)
        return account


def can_pay(key: KeyInfo | None, spec: ModelSpec) -> bool:
    """Whether the model has a price, or the key needs none: only a key with a budget in money does."""
    return key is None or key.limits.daily_usd is None or has_price(spec)


def _check_price(key: KeyInfo, spec: ModelSpec) -> None:
    if not can_pay(key, spec):
        raise Forbidden(
            f"The key {key.name!r} has a budget in money, but {spec.id!r} has no price. The operator can set the "
            "model's prices per million tokens, or give the key a budget in tokens.",
            code="model_price_unknown",
            param="model",
        )


def _check_budgets(account: KeyAccount, key: KeyInfo, left_s: float, *, free: bool) -> None:
    """Checks the daily budgets. Running requests count with their estimate, so that a burst cannot exceed a budget
    by much. The US dollar budget does not apply to a `free` model.
    """
    tokens, usd = account.limits.daily_tokens, account.limits.daily_usd
    if tokens is not None and account.today_tokens + account.held_tokens + account.others_tokens >= tokens:
        spent, used_of = account.today_tokens >= tokens, f"{account.today_tokens:,} of {tokens:,} tokens"
    elif usd is not None and not free and account.today_usd + account.held_usd + account.others_usd >= usd:
        spent, used_of = account.today_usd >= usd, f"{format_usd(account.today_usd)} of {format_usd(usd)}"
    else:
        return
    if not spent:
        raise TooManyTokens(
            f"The key {key.name!r} has used {used_of} today, and requests in progress may use the rest. Please try "
            "again when they are done.",
            code="rate_limit_exceeded",
            retry_after=1,
            headers=_decode_headers(account.rate_limit_headers()),
        )
    remaining_s = math.ceil(left_s)
    raise BudgetSpent(
        f"You exceeded your current quota: the key {key.name!r} has used {used_of} today. It resets at midnight UTC, "
        f"in {duration(remaining_s)}.",
        code="insufficient_quota",
        # Not as `retry_after`, because that would make the SDK retry.
        headers=_decode_headers(account.rate_limit_headers()) | {"retry-after": str(remaining_s)},
    )


def _spend(account: KeyAccount, lease: KeyLease, key: KeyInfo, need: Amounts, left_s: float) -> None:
    """Takes a request from the lease. Raises RateLimited if the lease is not enough."""
    lacking = lease.lacks(need)
    if lacking == "requests":
        raise _too_many_requests(account)
    if lacking == "tokens":
        raise _too_many_tokens(account, int(need.tokens))
    if lacking:
        _check_budgets(account, key, left_s, free=not need.usd)
        raise TooManyTokens(
            f"The rest of the budget of the key {key.name!r} may be in use. Please try again in {duration(_SOON_S)}.",
            code="rate_limit_exceeded",
            retry_after=1,
            headers=_retry_headers(_SOON_S, account),
        )
    lease.spend(need)


def _too_many_requests(account: KeyAccount) -> TooManyRequests:
    limit, used = account.rpm, math.ceil(account.requests)
    wait_s = max((account.requests + 1 - limit) * 60 / limit, 0.0) or _SOON_S
    return TooManyRequests(
        f"Rate limit reached on requests per min (RPM): Limit {limit:,}, Used {used:,}, Requested 1. "
        f"Please try again in {duration(wait_s)}.",
        code="rate_limit_exceeded",
        retry_after=math.ceil(wait_s),
        headers=_retry_headers(wait_s, account),
    )


def _too_many_tokens(account: KeyAccount, tokens: int) -> TooManyTokens:
    limit, used = account.tpm, math.ceil(account.tokens)
    if tokens > limit:
        return TooManyTokens(
            f"Request too large on tokens per min (TPM): Limit {limit:,}, Requested {tokens:,}. "
            "Send less, or ask for fewer tokens.",
            code="rate_limit_exceeded",
            headers=_decode_headers(account.rate_limit_headers()),
        )
    wait_s = max((account.tokens + tokens - limit) * 60 / limit, 0.0) or _SOON_S
    return TooManyTokens(
        f"Rate limit reached on tokens per min (TPM): Limit {limit:,}, Used {used:,}, Requested {tokens:,}. "
        f"Please try again in {duration(wait_s)}.",
        code="rate_limit_exceeded",
        retry_after=math.ceil(wait_s),
        headers=_retry_headers(wait_s, account),
    )


def _retry_headers(wait_s: float, account: KeyAccount) -> dict[str, str]:
    """The current limits and the exact wait in milliseconds, which OpenAI's clients prefer over `retry-after`."""
    return _decode_headers(account.rate_limit_headers()) | {"retry-after-ms": str(math.ceil(wait_s * 1000))}


def _decode_headers(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
