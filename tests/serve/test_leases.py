"""Limits that several gateways share: simulated with a manual clock, and in the database."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from models.database import Database
from models.usage import Slot, Sums, add_usage
from serve.accounting import leases
from serve.accounting.leases import Amounts, Bucket, Claim, Peers, exchange_leases, grant_claim, leave
from serve.accounting.rate_limits import RateLimited, RateLimiter
from tests.serve.test_rate_limits import OWN, Clock, hosted, key

TODAY = date(2026, 11, 22)


@dataclass
class Shared:
    """Gateways on a database that is a dict, by one clock."""

    count: int
    clock: Clock = field(default_factory=Clock)
    buckets: dict[str, Bucket] = field(default_factory=dict)
    used: dict[str, Amounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gateways = [RateLimiter(clock=self.clock, wall_clock=self.clock) for _ in range(self.count)]
        for gateway in self.gateways:
            gateway.share(self.count, leased=True)

    def exchange(self, number: int, silent: int = 0) -> None:
        gateway = self.gateways[number]
        peers = Peers(str(number), frozenset(map(str, range(self.count))), silent)
        claims, grants = gateway.claims(), {}
        for name, opened in claims.items():
            bucket, today = self.buckets.get(name, Bucket()), self.used.get(name, Amounts())
            self.buckets[name], grants[name] = grant_claim(bucket, opened.claim, self.clock(), today, peers)
        gateway.apply_grants(claims, grants, gateway.day())

    def send(
        self, number: int, who: Any, spec: Any = OWN, size: int = 40, most: int = 10
    ) -> Callable[..., None] | None:
        """Sends a request as `SharedLimits` does; returns the function that settles it; None if refused."""
        gateway = self.gateways[number]
        leased = gateway.key_lease(who, spec, size, most, 1)
        if leased is not None and not leased[0].covers(leased[1]):
            lease, need = leased
            lease.wait(need)
            self.exchange(number)
            lease.stop_waiting(need)
        try:
            admission = gateway.admit(who, spec, size, most)
        except RateLimited:
            return None

        def settle(prompt: int, completion: int, usd: float = 0.0) -> None:
            admission.settle(prompt, completion, usd)
            self.used[who.id] = self.used.get(who.id, Amounts()).plus(Amounts(0, 0, prompt + completion, usd))

        return settle


@pytest.mark.parametrize("gateways", [2, 3, 7])
@pytest.mark.parametrize("per_minute", [10, 600])
def test_a_full_bucket_and_its_refill_are_admitted_whatever_the_spread(gateways: int, per_minute: int) -> None:
    shared, mine, rng = Shared(gateways), key(requests_per_minute=per_minute), random.Random(gateways)
    admitted = 0
    for step in range(1200):  # two minutes, at twice the limit, mostly through one gateway
        shared.clock.now += 0.1
        for _ in range(per_minute // 300 or (step % (300 // per_minute) == 0)):
            admitted += shared.send(min(int(rng.expovariate(1)), gateways - 1), mine) is not None
        if step % 5 == 0:
            for number in range(gateways):
                shared.exchange(number)
    # A bucket, and what two minutes refill.
    assert 0.95 * 3 * per_minute <= admitted <= 3 * per_minute


def test_tokens_are_leased_settled_and_shared() -> None:
    shared, mine = Shared(2), key(tokens_per_minute=1000)
    spent, refused, number = 0, 0, 0
    while refused < 20:
        settle = shared.send(number % 2, mine, size=36, most=40)  # 50 by estimate
        if settle is None:
            refused += 1
            shared.clock.now += 0.2
            shared.exchange(number % 2)
        else:
            settle(10, 10)
            spent += 20
        number += 1
    minutes = (shared.clock.now - Clock().now) / 60
    assert 950 <= spent <= 1000 * (1 + minutes) * 1.01
    settle = shared.send(0, key("other", tokens_per_minute=1000), size=36, most=40)
    assert settle
    settle(400, 900)  # a debt
    shared.exchange(0)
    assert shared.send(1, key("other", tokens_per_minute=1000), size=36, most=40) is None


def test_a_budget_is_spent_once_and_what_runs_counts_everywhere() -> None:
    shared, mine = Shared(3), key(daily_tokens=1000)
    running = []
    for number in range(60):
        shared.clock.now += 0.2
        settle = shared.send(number % 3, mine, size=36, most=40)
        if settle is not None:
            running.append(settle)
    assert 1000 <= 50 * len(running) <= 1050
    for settle in running:
        settle(10, 15)
    for number in range(3):
        shared.clock.now += 2
        shared.exchange(number)
    done = 0
    for number in range(200):
        shared.clock.now += 0.2
        settle = shared.send(number % 3, mine, size=36, most=40)
        if settle is None:
            continue
        settle(10, 15)
        done += 25
        shared.exchange(number % 3)
    assert 1000 <= 25 * len(running) + done <= 1050


def test_a_budget_in_money_is_spent_once() -> None:
    shared, mine, spec = Shared(2), key(daily_usd=1.0), hosted(1_000.0, 1_000.0)
    settled = 0.0
    for number in range(300):
        shared.clock.now += 0.2
        settle = shared.send(number % 2, mine, spec, size=36, most=40)  # 5 cents by estimate
        if settle is not None:
            settle(5, 5, 0.01)
            settled += 0.01
        shared.exchange(number % 2)
    assert 0.95 <= settled <= 1.02


def test_without_the_database_each_gateway_admits_its_part() -> None:
    shared, mine = Shared(2), key(requests_per_minute=100)
    for number in range(20):
        assert shared.send(number % 2, mine)
    for gateway in shared.gateways:
        gateway.share(2, leased=False)
    admitted = [0, 0]
    for number in range(200):
        admitted[number % 2] += shared.send(number % 2, mine) is not None
    assert 70 <= sum(admitted) <= 80
    assert min(admitted) >= 25
    shared.clock.now += 30  # the database is back: the requests that each admitted are a debt of its lease
    for gateway in shared.gateways:
        gateway.share(2, leased=True)
    for number in range(2):
        shared.exchange(number)
    again = sum(shared.send(number % 2, mine) is not None for number in range(100))
    assert 45 <= again <= 55
    # The database knows what was used before; an outage of a moment adds nothing to it.
    for leased in (False, True):
        for gateway in shared.gateways:
            gateway.share(2, leased=leased)
    shared.clock.now += 30
    for number in range(2):
        shared.exchange(number)
    assert 45 <= sum(shared.send(number % 2, mine) is not None for number in range(100)) <= 55


def test_the_share_of_a_silent_gateway_stays_free() -> None:
    peers = Peers("a", frozenset("ab"), silent=1)
    claim = Claim(Amounts(60, 600, 0, 0), need=Amounts(100, 0, 0, 0))
    _, grant = grant_claim(Bucket(), claim, 1e9, Amounts(), peers)
    assert grant.lease.requests == 30


def test_a_clock_that_was_set_back_refills_nothing() -> None:
    peers, claim = Peers("a", frozenset("ab")), Claim(Amounts(60, 0, 0, 0), need=Amounts(5, 0, 0, 0))
    bucket, _ = grant_claim(Bucket(at=2000.0, requests=58.0), claim, 1000.0, Amounts(), peers)
    assert (bucket.at, bucket.requests) == (1000.0, 60.0)
    later, _ = grant_claim(bucket, Claim(claim.limits), 1030.0, Amounts(), peers)
    assert later.requests == 30


def test_the_database_keeps_leases_and_gateways_apart(any_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    limits, database = Amounts(60, 600, 1000, 5.0), any_database
    add_usage(database, {Slot(TODAY, "k", "m"): Sums(3, 0, 300, 100, 1.5)})
    peers, grants = exchange_leases(database, "a", "here", TODAY, {})
    assert (peers.ids, grants) == ({"a"}, {})
    running = Amounts(0, 0, 50, 0.25)
    peers, grants = exchange_leases(
        database, "b", "there", TODAY, {"k": Claim(limits, need=Amounts(50, 100, 100, 0.5), running=running)}
    )
    assert peers == Peers("b", frozenset("ab"))
    assert grants["k"].lease == Amounts(50, 100, 100, 0.5)
    assert grants["k"].today == Amounts(0, 0, 400, 1.5)
    _, grants = exchange_leases(database, "a", "here", TODAY, {"k": Claim(limits, need=Amounts(50, 0, 1000, 9.0))})
    assert grants["k"].lease.requests == pytest.approx(10, abs=0.5)
    assert grants["k"].lease[2:] == (450, 2.75)
    assert grants["k"].others == Amounts(0, 0, 150, 0.75)
    leave(database, "b")
    _, grants = exchange_leases(database, "a", "here", TODAY, {"k": Claim(limits, lease=grants["k"].lease)})
    assert grants["k"].others == Amounts()
    exchange_leases(database, "c", "there", TODAY, {})
    monkeypatch.setattr(leases, "SILENT_S", 0.2)
    time.sleep(0.3)
    peers, _ = exchange_leases(database, "d", "there", TODAY, {})  # after a kill of c, at its place
    assert (peers.ids, peers.silent) == ({"a", "d"}, 1)
