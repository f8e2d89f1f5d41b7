"""Leases of a key's limits, by which several gateways on one database share them.

A key's requests and tokens per minute are one token bucket in the database, and its budgets are what the usage table
has not counted yet. A gateway leases a part of each, admits requests from its lease, and exchanges the lease for a new
one in the background: what it did not use goes back. All gateways together therefore never admit more than one would.
A gateway that is silent may be cut off from the database only, so its equal share of each limit is left to it.

Nothing here knows a request or an event loop: see `serve.accounting.shared_limits`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Table, bindparam, delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.tables import UsageRow
from serve.tables import GatewayRow, RateBucketRow

SILENT_S = 3.0  # without a heartbeat for this long, a gateway may be cut off
_FORGOTTEN_S = 600.0  # after this time its share of the limits goes to the others


class Amounts(NamedTuple):
    """Requests and tokens of a minute; tokens and US dollars of a day."""

    requests: float = 0.0
    tokens: float = 0.0
    day_tokens: float = 0.0
    usd: float = 0.0

    def plus(self, other: "Amounts") -> "Amounts":
        """The sum of both."""
        return Amounts(self[0] + other[0], self[1] + other[1], self[2] + other[2], self[3] + other[3])

    def minus(self, other: "Amounts") -> "Amounts":
        """The difference of both."""
        return Amounts(self[0] - other[0], self[1] - other[1], self[2] - other[2], self[3] - other[3])


NOTHING = Amounts()


@dataclass(frozen=True)
class Claim:
    """What a gateway exchanges for one key.

    `limits`: the key's limits, 0 for none. `lease`: what is left of the last lease, negative if more was used. `need`:
    what waiting requests need. `want`: what the next second needs by the last one. `running`: the estimates of running
    requests; only those of the day count.
    """

    limits: Amounts
    lease: Amounts = NOTHING
    need: Amounts = NOTHING
    want: Amounts = NOTHING
    running: Amounts = NOTHING


@dataclass(frozen=True)
class Grant:
    """The answer to a claim.

    `lease`: the new lease. `missing`: requests and tokens that are missing from the buckets, all leases included.
    `today`: the day's usage that the database has. `others`: what other gateways hold of the day's budgets.
    """

    lease: Amounts
    missing: Amounts
    today: Amounts
    others: Amounts


@dataclass(frozen=True)
class Bucket:
    """A row of `rate_buckets`."""

    at: float = 0.0
    requests: float = 0.0
    tokens: float = 0.0
    held: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Peers:
    """The gateways of a database: `me` among them, all `ids`, and how many of them are `silent`."""

    me: str
    ids: frozenset[str]
    silent: int = 0

    @property
    def share(self) -> float:
        """The share of each limit that may be leased: the rest belongs to silent gateways."""
        return 1 - self.silent / max(len(self.ids), 1)


def grant_claim(bucket: Bucket, claim: Claim, now: float, today: Amounts, peers: Peers) -> tuple[Bucket, Grant]:
    """Exchanges one lease; returns the bucket afterwards and the grant. `now`: seconds since the epoch.

    A need is granted as far as there is something left. What is wanted beyond is granted only in part, so that one
    gateway does not take what the others need next.
    """
    minutes = max(now - bucket.at, 0.0) / 60  # a clock that was set back refills nothing
    parts = 2 * max(len(peers.ids), 1)
    missing = Amounts(
        _refilled(bucket.requests, minutes * claim.limits.requests, claim.lease.requests),
        _refilled(bucket.tokens, minutes * claim.limits.tokens, claim.lease.tokens),
    )
    held = {name: list(amounts) for name, amounts in bucket.held.items() if name in peers.ids and name != peers.me}
    others = Amounts(0, 0, sum(amounts[0] for amounts in held.values()), sum(amounts[1] for amounts in held.values()))
    used = missing.plus(today).plus(others).plus(Amounts(0, 0, claim.running.day_tokens, claim.running.usd))
    lease = Amounts(
        *(
            _part(limit * peers.share - taken, need, want, parts) if limit else 0.0
            for limit, taken, need, want in zip(claim.limits, used, claim.need, claim.want, strict=True)
        )
    )
    lease = lease._replace(requests=math.floor(lease.requests))  # a part of one would lie unused
    held[peers.me] = [
        claim.running.day_tokens + _reserved(lease.day_tokens, claim.need.day_tokens),
        claim.running.usd + _reserved(lease.usd, claim.need.usd),
    ]
    missing = missing.plus(Amounts(lease.requests, lease.tokens))
    return Bucket(now, missing.requests, missing.tokens, held), Grant(lease, missing, today, others)


def _reserved(granted: float, needed: float) -> float:
    """What a grant of a budget may use: the last of a budget is exceeded by the request that gets it."""
    return max(granted, needed) if granted else 0.0


def _refilled(missing: float, refill: float, returned: float) -> float:
    """What is missing from a bucket after its refill and the return of a lease, which may be a debt."""
    return max(max(missing - refill, 0.0) - returned, 0.0)


def _part(left: float, need: float, want: float, parts: int) -> float:
    left = max(left, 0.0)
    granted = min(need, left)
    return granted + min(want, (left - granted) / parts)


def exchange_leases(
    database: Database, me: str, place: str, day: date, claims: Mapping[str, Claim]
) -> tuple[Peers, dict[str, Grant]]:
    """Sends a heartbeat and exchanges the leases (key id → claim) in one short transaction.

    Raises:
        ParleyError: the database does not answer.
    """
    with database.connection() as connection:
        if not database.is_sqlite:
            # A lease that a crash of the database loses is harmless.
            connection.execute(text("SET LOCAL synchronous_commit = off"))
        peers = _beat(database, connection, me, place)
        if not claims:
            return peers, {}
        insert = sqlite.insert if database.is_sqlite else postgresql.insert
        names = sorted(claims)  # in one order, so that concurrent gateways cannot deadlock
        new = [{"key_id": name, "at": 0.0, "requests": 0.0, "tokens": 0.0, "held": {}} for name in names]
        connection.execute(insert(RateBucketRow).on_conflict_do_nothing(), new)
        query = select(RateBucketRow.__table__).where(RateBucketRow.key_id.in_(names)).order_by(RateBucketRow.key_id)
        rows = connection.execute(query.with_for_update()).all()
        now, used = _now(database, connection), _today(connection, day, names, claims)
        changed: list[dict[str, Any]] = []
        grants: dict[str, Grant] = {}
        for row in rows:
            bucket = Bucket(row.at, row.requests, row.tokens, row.held)
            bucket, grants[row.key_id] = grant_claim(
                bucket, claims[row.key_id], now, used.get(row.key_id, NOTHING), peers
            )
            changed.append({"name": row.key_id} | vars(bucket))
        values = {name: bindparam(name) for name in ("at", "requests", "tokens", "held")}
        statement = (
            update(cast(Table, RateBucketRow.__table__)).where(RateBucketRow.key_id == bindparam("name")).values(values)
        )
        connection.execute(statement, changed)
    return peers, grants


def leave(database: Database, me: str) -> None:
    """Removes a gateway that stops, so that its share is free at once. Raises ParleyError."""
    with database.connection() as connection:
        connection.execute(delete(GatewayRow).where(GatewayRow.id == me))


def _beat(database: Database, connection: Connection, me: str, place: str) -> Peers:
    now = _now(database, connection)
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    statement = insert(GatewayRow).values(id=me, place=place, seen=now)
    connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"seen": now}))
    seen = {row.id: row for row in connection.execute(select(GatewayRow.__table__))}
    # A silent one at the same place was killed, and this is its successor. One silent for long is not expected back.
    gone = [
        name for name, row in seen.items()
        if now - row.seen > (SILENT_S if row.place == place else _FORGOTTEN_S)
    ]  # fmt: skip
    if gone:
        connection.execute(delete(GatewayRow).where(GatewayRow.id.in_(gone)))
    ids = frozenset(seen.keys() - set(gone))
    return Peers(me, ids, sum(now - seen[name].seen > SILENT_S for name in ids if name != me))


def _now(database: Database, connection: Connection) -> float:
    """Seconds since the epoch by the database's clock, which all gateways share."""
    if database.is_sqlite:
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def _today(connection: Connection, day: date, names: Sequence[str], claims: Mapping[str, Claim]) -> dict[str, Amounts]:
    """The usage of the keys with budgets on that day."""
    budgets = [name for name in names if claims[name].limits.day_tokens or claims[name].limits.usd]
    if not budgets:
        return {}
    tokens = func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)
    query = (
        select(UsageRow.key_id, tokens, func.sum(UsageRow.usd))
        .where(UsageRow.day == day, UsageRow.key_id.in_(budgets))
        .group_by(UsageRow.key_id)
    )
    return {name: Amounts(0, 0, float(tokens), float(usd)) for name, tokens, usd in connection.execute(query)}
