"""What each key may still use: requests and tokens a minute, tokens and money a day. It holds no key's secret.

A minute's limit is a bucket that holds one minute's worth and fills evenly, as OpenAI's is: so much may come at once,
and after that as fast as it fills. Buckets are in the memory of the one gateway process, and full after a start.
Days are UTC's; what was used of one is read from the usage table at the start, and counted here from then on.
"""

import math
import time
from collections.abc import Callable, Mapping

from models.database import Database, utcnow
from models.errors import Busy, Forbidden
from models.keys import NO_LIMITS, KeyInfo, KeyLimits
from models.spec import ModelSpec
from models.usage import Sums, cost, daily_totals, has_price
from serve.transport.responses import Headers

_DAY_S = 86_400
_BYTES_A_TOKEN = 4


class RateLimited(Busy):
    """Too much in this minute. The SDK waits as long as `retry-after` says, and asks again."""


class TooManyRequests(RateLimited):
    """Over the key's requests a minute."""

    kind = "requests"


class TooManyTokens(RateLimited):
    """Over the key's tokens a minute."""

    kind = "tokens"


class BudgetSpent(RateLimited):
    """The day's budget is spent: a repeat cannot help before midnight, UTC."""

    kind = "insufficient_quota"


class Account:
    """What one key has used. `requests` and `tokens` are what is gone from its buckets, at the moment `at`.

    Beside it its limits as the hot path reads them: 0 for none, and the headers that never change.
    """

    __slots__ = (
        "at",
        "daily",
        "day",
        "held_tokens",
        "held_usd",
        "limits",
        "requests",
        "rpm",
        "said_requests",
        "said_tokens",
        "today_tokens",
        "today_usd",
        "tokens",
        "tpm",
    )  # fmt: skip

    def __init__(self, at: float, day: int, used: Sums | None) -> None:
        self.at, self.day = at, day
        self.requests = self.tokens = 0.0
        self.today_tokens, self.today_usd = (used.tokens, used.usd) if used else (0, 0.0)
        self.held_tokens, self.held_usd = 0, 0.0
        self.bound(NO_LIMITS)

    def bound(self, limits: KeyLimits) -> None:
        """The key's limits are these from now on."""
        self.limits = limits
        self.rpm, self.tpm = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
        self.daily = limits.daily_tokens is not None or limits.daily_usd is not None
        self.said_requests = (b"x-ratelimit-limit-requests", b"%d" % self.rpm)
        self.said_tokens = (b"x-ratelimit-limit-tokens", b"%d" % self.tpm)

    def turn(self, day: int) -> None:
        """A new day has begun: what is on its way counts for it when it arrives."""
        self.day, self.today_tokens, self.today_usd = day, 0, 0.0

    def left(self) -> Headers:
        """What is left of the buckets, as OpenAI says it; only of those that the key has."""
        found: Headers = []
        if self.rpm:
            gone, most = self.requests, self.rpm
            found = [
                self.said_requests,
                (b"x-ratelimit-remaining-requests", str(int(most - gone)).encode() if gone < most else b"0"),
                (b"x-ratelimit-reset-requests", _until_full(gone * 60_000 / most)),
            ]
        if self.tpm:
            gone, most = self.tokens, self.tpm
            found += (
                self.said_tokens,
                (b"x-ratelimit-remaining-tokens", str(int(most - gone)).encode() if gone < most else b"0"),
                (b"x-ratelimit-reset-tokens", _until_full(gone * 60_000 / most)),
            )
        return found


class Admission:
    """A request that was let in. `headers` go out with its answer; `settle` says what it came to, once."""

    __slots__ = ("_account", "_limits", "_tokens", "_usd", "headers")

    def __init__(self, limits: "Limits", account: Account | None, tokens: int, usd: float, headers: Headers) -> None:
        self._limits, self._account, self._tokens, self._usd = limits, account, tokens, usd
        self.headers = headers

    def settle(self, prompt_tokens: int, completion_tokens: int, usd: float = 0.0) -> None:
        """Puts what was really used in the place of what was reserved. A second call changes nothing."""
        account = self._account
        if account is None:
            return
        self._account = None
        day = self._limits.day()
        if account.day != day:
            account.turn(day)
        used, reserved = prompt_tokens + completion_tokens, self._tokens
        account.today_tokens += used
        account.today_usd += usd
        if reserved:
            # More than was reserved leaves a debt in the bucket; less gives back.
            left = account.tokens + used - reserved
            account.tokens = left if left > 0 else 0.0
            account.held_tokens -= reserved
            account.held_usd -= self._usd


class Limits:
    """Admits requests. For the event loop alone; `load` once before it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self._accounts: dict[str, Account] = {}
        self._used: Mapping[str, Sums] = {}
        self._used_on = -1
        self._day, self._day_ends = -1, 0.0

    def load(self, database: Database) -> None:
        """Reads what was used today, so that a budget survives a restart. Raises ParleyError without a database."""
        self._used_on = self.day()
        self._used = daily_totals(database, utcnow().date())

    def day(self) -> int:
        """Today's number."""
        now = self._wall()
        if now >= self._day_ends:
            self._day = int(now) // _DAY_S
            self._day_ends = (self._day + 1) * _DAY_S
        return self._day

    def admit(
        self, key: KeyInfo | None, spec: ModelSpec, prompt_bytes: int, most_tokens: int | None, answers: int = 1
    ) -> Admission:
        """Lets a request in, and reserves what it may come to: a token for 4 bytes, and what it allows its answers.

        Raises:
            TooManyRequests, TooManyTokens, BudgetSpent: not now. Forbidden: nobody knows what the model costs.
        """
        if key is None:
            return Admission(self, None, 0, 0.0, [])
        now, day, limits = self._clock(), self.day(), key.limits
        account = self._accounts.get(key.id) or self._meet(key, now, day)
        if account.day != day:
            account.turn(day)
        if account.limits is not limits:
            account.bound(limits)
        if limits is NO_LIMITS:
            return Admission(self, account, 0, 0.0, [])
        answer = most_tokens * answers if most_tokens is not None and most_tokens > 0 else 0
        tokens = prompt_bytes // _BYTES_A_TOKEN + 1 + answer
        minutes = (now - account.at) / 60
        account.at = now
        requests, gone = account.requests - minutes * account.rpm, account.tokens - minutes * account.tpm
        account.requests = requests = requests if requests > 0 and account.rpm else 0.0
        account.tokens = gone = gone if gone > 0 and account.tpm else 0.0
        usd = 0.0
        if account.daily:
            _check_budgets(account, key, self._day_ends - self._wall())
            if limits.daily_usd is not None:
                _check_price(key, spec)
                usd = cost(spec, tokens - answer, answer)
                account.held_usd += usd
        if account.rpm and requests + 1 > account.rpm:
            account.held_usd -= usd
            raise _too_many_requests(account)
        if account.tpm and gone + tokens > account.tpm:
            account.held_usd -= usd
            raise _too_many_tokens(account, tokens)
        account.requests = requests + 1
        account.tokens = gone + tokens
        account.held_tokens += tokens
        return Admission(self, account, tokens, usd, account.left())

    def _meet(self, key: KeyInfo, now: float, day: int) -> Account:
        used = self._used.get(key.id) if day == self._used_on else None
        account = self._accounts[key.id] = Account(now, day, used)
        return account


def can_pay(key: KeyInfo | None, spec: ModelSpec) -> bool:
    """Whether the price of a model is known, or nothing to a key: only one with a budget in money has to know it."""
    return key is None or key.limits.daily_usd is None or has_price(spec)


def _check_price(key: KeyInfo, spec: ModelSpec) -> None:
    if not can_pay(key, spec):
        raise Forbidden(
            f"The key {key.name!r} has a budget in money, and what {spec.id!r} costs is not known: the operator has to "
            "give the model its prices per million tokens, or the key a budget in tokens.",
            code="model_price_unknown",
            param="model",
        )


def duration(seconds: float) -> str:
    """A span of time as OpenAI's headers have it: `20ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`."""
    ms = int(seconds * 1000 + 0.999999)  # never too short
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


def _check_budgets(account: Account, key: KeyInfo, left_s: float) -> None:
    """A budget counts what is on its way at its estimate, so that a crowd at once cannot run far beyond it."""
    tokens, usd = account.limits.daily_tokens, account.limits.daily_usd
    if tokens is not None and account.today_tokens + account.held_tokens >= tokens:
        spent, said = account.today_tokens >= tokens, f"{account.today_tokens:,} of {tokens:,} tokens"
    elif usd is not None and account.today_usd + account.held_usd >= usd:
        spent, said = account.today_usd >= usd, f"${account.today_usd:.4f} of ${usd:.4f}"
    else:
        return
    if not spent:
        raise TooManyTokens(
            f"The key {key.name!r} has used {said} for today, and what is on its way may take the rest. "
            "Please try again when it is answered.",
            code="rate_limit_exceeded",
            retry_after=1,
            headers=_named(account.left()),
        )
    left = math.ceil(left_s)
    raise BudgetSpent(
        f"You exceeded your current quota: the key {key.name!r} has used {said} for today. "
        f"It starts anew at midnight UTC, in {duration(left)}.",
        code="insufficient_quota",
        # Not as `retry_after`, with which the SDK would be told to try again: it shall not, for so long.
        headers=_named(account.left()) | {"retry-after": str(left)},
    )


def _too_many_requests(account: Account) -> TooManyRequests:
    most, used = account.rpm, math.ceil(account.requests)
    wait_s = (account.requests + 1 - most) * 60 / most
    return TooManyRequests(
        f"Rate limit reached on requests per min (RPM): Limit {most:,}, Used {used:,}, Requested 1. "
        f"Please try again in {duration(wait_s)}.",
        code="rate_limit_exceeded",
        retry_after=math.ceil(wait_s),
        headers=_later(wait_s, account),
    )


def _too_many_tokens(account: Account, tokens: int) -> TooManyTokens:
    most, used = account.tpm, math.ceil(account.tokens)
    if tokens > most:
        return TooManyTokens(
            f"Request too large on tokens per min (TPM): Limit {most:,}, Requested {tokens:,}. "
            "Send less, or ask for fewer tokens.",
            code="rate_limit_exceeded",
            headers=_named(account.left()),
        )
    wait_s = (account.tokens + tokens - most) * 60 / most
    return TooManyTokens(
        f"Rate limit reached on tokens per min (TPM): Limit {most:,}, Used {used:,}, Requested {tokens:,}. "
        f"Please try again in {duration(wait_s)}.",
        code="rate_limit_exceeded",
        retry_after=math.ceil(wait_s),
        headers=_later(wait_s, account),
    )


def _later(wait_s: float, account: Account) -> dict[str, str]:
    """What is left, and when to come back to the millisecond: OpenAI's clients read that before `retry-after`."""
    return _named(account.left()) | {"retry-after-ms": str(math.ceil(wait_s * 1000))}


def _until_full(ms: float) -> bytes:
    return b"%dms" % int(ms + 0.999) if ms < 999 else duration(ms / 1000).encode()


def _named(headers: Headers) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}
