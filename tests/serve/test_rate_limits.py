"""Limits with a manual clock: buckets fill evenly, budgets end with the day, reservations are settled."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.database import Database, utcnow
from models.errors import Forbidden
from models.keys import NO_LIMITS, KeyInfo, KeyLimits
from models.spec import ModelSpec, Upstream
from models.usage import Slot, Sums, add_usage
from serve.accounting.rate_limits import BudgetSpent, RateLimiter, TooManyRequests, TooManyTokens, duration
from serve.transport.asgi import Headers
from serve.transport.error_responses import error_headers

OWN = ModelSpec(id="own", kind="base", path="org/own")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


def hosted(read: float | None = None, written: float | None = None) -> ModelSpec:
    upstream = Upstream(base_url="https://x/v1", model="m", usd_per_million_input=read, usd_per_million_output=written)
    return ModelSpec(id="m", kind="hosted", upstream=upstream)


def key(name: str = "k", **limits: Any) -> KeyInfo:
    return KeyInfo(name, name, "client", utcnow(), None, None, None, KeyLimits(**limits) if limits else NO_LIMITS)


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimiter:
    return RateLimiter(clock=clock, wall_clock=clock)


def named(headers: Headers) -> dict[str, str]:
    assert len({name for name, _ in headers}) == len(headers)
    return {name.decode().removeprefix("x-ratelimit-"): value.decode() for name, value in headers}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (0.9991, "1s"), (1, "1s"), (8.64, "8.64s"), (59.9999, "1m0s"), (360, "6m0s"),
     (61.5, "1m1.5s"), (43_200, "12h0m0s"), (3_661, "1h1m1s")],
)  # fmt: skip
def test_spans_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_requests_come_at_once_and_then_as_the_bucket_fills(limits: RateLimiter, clock: Clock) -> None:
    three = key(requests_per_minute=3)
    left = [named(limits.admit(three, OWN, 40, 5).headers) for _ in range(3)]
    assert left[0] == {"limit-requests": "3", "remaining-requests": "2", "reset-requests": "20s"}
    assert [headers["remaining-requests"] for headers in left] == ["2", "1", "0"]
    with pytest.raises(TooManyRequests) as refused:
        limits.admit(three, OWN, 40, 5)
    body = refused.value.body()["error"]
    assert (refused.value.status, body["type"], body["code"]) == (429, "requests", "rate_limit_exceeded")
    assert "Limit 3, Used 3" in body["message"]
    assert "try again in 20s" in body["message"]
    headers = named(error_headers(refused.value))
    assert headers["retry-after"] == "20"
    assert headers["retry-after-ms"] == "20000"
    assert (headers["remaining-requests"], headers["reset-requests"]) == ("0", "1m0s")
    assert "x-should-retry" not in headers
    clock.now += 19.9
    with pytest.raises(TooManyRequests) as refused:
        limits.admit(three, OWN, 40, 5)
    assert named(error_headers(refused.value))["retry-after"] == "1"
    clock.now += 0.1
    limits.admit(three, OWN, 40, 5)
    clock.now += 3600
    for _ in range(3):
        limits.admit(three, OWN, 40, 5)
    with pytest.raises(TooManyRequests):
        limits.admit(three, OWN, 40, 5)
    limits.admit(key("other", requests_per_minute=3), OWN, 40, 5)


def test_tokens_are_reserved_by_estimate_and_settled_by_what_was_used(limits: RateLimiter, clock: Clock) -> None:
    hundred = key(tokens_per_minute=100)
    first = limits.admit(hundred, OWN, 39 * 4, 50)
    assert named(first.headers) == {"limit-tokens": "100", "remaining-tokens": "10", "reset-tokens": "54s"}
    with pytest.raises(TooManyTokens) as refused:
        limits.admit(hundred, OWN, 0, 20)
    assert refused.value.body()["error"]["type"] == "tokens"
    first.settle(10, 10)
    first.settle(1000, 1000)
    second = limits.admit(hundred, OWN, 0, 20)
    assert named(second.headers)["remaining-tokens"] == "59"
    second.settle(100, 130)  # far more than the estimate: a debt
    with pytest.raises(TooManyTokens) as refused:
        limits.admit(hundred, OWN, 0, None)
    assert refused.value.retry_after == 91
    assert named(error_headers(refused.value))["remaining-tokens"] == "0"
    clock.now += 91
    limits.admit(hundred, OWN, 0, None)


def test_what_was_not_used_is_given_back(limits: RateLimiter) -> None:
    hundred = key(tokens_per_minute=100)
    for _ in range(5):
        limits.admit(hundred, OWN, 0, 90).settle(0, 0)


def test_each_requested_answer_counts(limits: RateLimiter) -> None:
    with pytest.raises(TooManyTokens):
        limits.admit(key(tokens_per_minute=100), OWN, 0, 50, choices=2)


def test_what_can_never_fit_is_not_to_be_repeated(limits: RateLimiter) -> None:
    with pytest.raises(TooManyTokens, match="Request too large") as refused:
        limits.admit(key(tokens_per_minute=100), OWN, 0, 101)
    headers = named(error_headers(refused.value))
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


def test_a_days_tokens_end_and_begin_anew_at_midnight(limits: RateLimiter, clock: Clock) -> None:
    fifty = key(daily_tokens=50)
    limits.admit(fifty, OWN, 40, 5).settle(20, 10)
    limits.admit(fifty, OWN, 40, 5).settle(20, 10)
    with pytest.raises(BudgetSpent) as refused:
        limits.admit(fifty, OWN, 40, 5)
    body = refused.value.body()["error"]
    assert (refused.value.status, body["type"], body["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "60 of 50 tokens" in body["message"]
    headers = named(error_headers(refused.value))
    assert (headers["x-should-retry"], headers["retry-after"]) == ("false", "43200")
    clock.now += 43_199
    with pytest.raises(BudgetSpent):
        limits.admit(fifty, OWN, 40, 5)
    clock.now += 1
    limits.admit(fifty, OWN, 40, 5)


def test_what_is_on_its_way_counts_for_the_budget(limits: RateLimiter, clock: Clock) -> None:
    fifty = key(daily_tokens=50)
    going = limits.admit(fifty, OWN, 40, 40)
    with pytest.raises(TooManyTokens, match="requests in progress") as refused:
        limits.admit(fifty, OWN, 40, 5)
    assert refused.value.retry_after == 1, "it may well fit when the other one is answered"
    clock.now += 86_400
    with pytest.raises(TooManyTokens):
        limits.admit(fifty, OWN, 40, 5)
    going.settle(10, 5)
    limits.admit(fifty, OWN, 40, 5)


def test_a_days_money_is_spent_on_hosted_models_alone(limits: RateLimiter) -> None:
    dollar = key(daily_usd=1.0)
    limits.admit(dollar, OWN, 4, 10**6).settle(10**6, 10**6)
    limits.admit(dollar, hosted(2, 8), 4, 10).settle(100_000, 100_000, 1.0)
    with pytest.raises(BudgetSpent, match=r"\$1\.00 of \$1\.00"):
        limits.admit(dollar, hosted(2, 8), 4, 10)


def test_a_model_without_a_price_is_not_for_a_budget_in_money(limits: RateLimiter) -> None:
    with pytest.raises(Forbidden, match="prices"):
        limits.admit(key(daily_usd=1.0), hosted(2, None), 4, 10)
    limits.admit(key(daily_tokens=1), hosted(), 4, 10)


def test_limits_that_change_apply_at_once_and_forgive_what_was_not_limited(limits: RateLimiter) -> None:
    limits.admit(key(), OWN, 4, None).settle(5_000, 5_000)
    limits.admit(key(tokens_per_minute=100), OWN, 4, 10)
    with pytest.raises(BudgetSpent):
        limits.admit(key(daily_tokens=10_000), OWN, 4, 10)
    with pytest.raises(TooManyRequests):
        for _ in range(3):
            limits.admit(key(requests_per_minute=2), OWN, 4, 10)


def test_a_budget_survives_a_restart(any_database: Database) -> None:
    today = utcnow().date()
    add_usage(any_database, {Slot(today, "k", "a"): Sums(1, 0, 30, 10), Slot(today, "k", "b"): Sums(1, 0, 5, 5, 2.0)})
    again = RateLimiter()
    again.load(any_database)
    again.admit(key(daily_tokens=51), OWN, 4, None)
    with pytest.raises(BudgetSpent):
        again.admit(key(daily_tokens=50), OWN, 4, None)
    with pytest.raises(BudgetSpent):
        again.admit(key(daily_usd=2.0), hosted(1, 1), 4, None)


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(1, 60), st.floats(0, 1), st.booleans()), min_size=1, max_size=60)
)
def test_never_more_than_a_bucket_and_what_ran_into_it_since(steps: list[tuple[float, int, float, bool]]) -> None:
    """Steps: seconds that pass, requested tokens, the share of them that is used, whether it ends at once."""
    clock = Clock()
    limits, mine = RateLimiter(clock=clock, wall_clock=clock), key(requests_per_minute=5, tokens_per_minute=100)
    began, let_in, used, going = clock.now, 0, 0, []
    for passed, most, share, at_once in steps:
        clock.now += passed
        try:
            admission = limits.admit(mine, OWN, 0, most)
        except (TooManyRequests, TooManyTokens):
            continue
        let_in += 1
        spent = int(most * share)
        used += spent
        going.append((admission, spent))
        if at_once:
            admission.settle(0, spent)
        minutes = (clock.now - began) / 60
        assert let_in <= 5 + 5 * minutes + 1e-6
        assert used <= 100 + 100 * minutes + 1e-6
    for admission, spent in going:
        admission.settle(0, spent)
    account = limits._accounts[mine.id]
    assert (account.held_tokens, account.today_tokens) == (0, used)
    clock.now += 60
    assert named(limits.admit(mine, OWN, 0, None).headers)["remaining-requests"] == "4"


def test_without_a_key_there_is_no_limit(limits: RateLimiter) -> None:
    admission = limits.admit(None, hosted(), 10**9, 10**9)
    admission.settle(1, 1)
    assert admission.headers == []


def test_a_spent_budget_in_money_blocks_only_what_costs_money(limits: RateLimiter) -> None:
    spender = key(daily_usd=0.0001)
    limits.admit(spender, hosted(1, 1), 400, 10).settle(100, 10, usd=0.0002)
    with pytest.raises(BudgetSpent, match=r"used \$0\.0002 of \$0\.0001 today"):
        limits.admit(spender, hosted(1, 1), 400, 10)
    for free in (OWN, hosted(0, 0)):
        admission = limits.admit(spender, free, 400, 10)
        # A fallback to a model with a price is not allowed either.
        assert admission.allows(free)
        assert not admission.allows(hosted(1, 1))
        admission.settle(100, 10)


@pytest.mark.parametrize(
    ("usd", "text"), [(5, "$5.00/day"), (0.0001, "$0.0001/day"), (1234.5, "$1,234.50/day"), (0.125, "$0.125/day")]
)
def test_a_budget_is_shown_with_all_its_digits(usd: float, text: str) -> None:
    assert KeyLimits(daily_usd=usd).describe() == (text,)
