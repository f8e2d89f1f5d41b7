"""Usage by key, model and UTC day, and its cost. Only serve/accounting/request_logs.py counts it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.spec import ModelSpec
from models.tables import KeyRow, UsageBatchRow, UsageRow

# The key ids of usage without a key, and of Parley's own page and worker.
NO_KEY, PAGE_KEY = "", "page"
_SUMS = ("requests", "failed", "prompt_tokens", "completion_tokens", "usd")


class Slot(NamedTuple):
    """What a sum covers. `key_id` is NO_KEY if none was needed, PAGE_KEY for Parley's own page and worker."""

    day: date
    key_id: str
    model_id: str


@dataclass
class Sums:
    """Summed usage. `failed` requests were answered with an error; `usd` is by the prices at the time."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output tokens, as counted by daily limits."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: "Sums") -> None:
        """Adds other sums to these."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Usage:
    """A key's usage of a model on a day. `key` is its name; empty if no key was needed."""

    day: date
    key_id: str
    key: str
    model: str
    sums: Sums

    def to_json(self) -> dict[str, Any]:
        """A flat object, with the day as text."""
        row = {"day": self.day.isoformat(), "key_id": self.key_id, "key": self.key, "model": self.model}
        return row | asdict(self.sums)


class Batch(NamedTuple):
    """The name of sums that are added once, and the gateway that adds them."""

    writer: str
    id: str


def add_usage(database: Database, used: Mapping[Slot, Sums], batch: Batch | None = None) -> None:
    """Adds to the stored sums in one transaction.

    With a `batch`, a repetition changes nothing: the database may have committed although the connection broke.
    """
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    statement = insert(UsageRow)
    raised = {name: getattr(UsageRow, name) + statement.excluded[name] for name in _SUMS}
    statement = statement.on_conflict_do_update(index_elements=["day", "key_id", "model_id"], set_=raised)
    # Sorted, so that concurrent writers cannot deadlock.
    rows = [slot._asdict() | asdict(used[slot]) for slot in sorted(used)]
    with database.connection() as connection:
        if batch is not None:
            first = insert(UsageBatchRow).values(batch._asdict())
            first = first.on_conflict_do_update(
                index_elements=["writer"], set_={"id": batch.id}, where=UsageBatchRow.id != batch.id
            ).returning(UsageBatchRow.writer)
            # A first attempt that is still running is waited for.
            if connection.execute(first).first() is None:
                return
        connection.execute(statement, rows)


def read_usage(
    database: Database, *, since: date | None = None, key_id: str | None = None, model: str | None = None
) -> list[Usage]:
    """The usage rows, by day, then key, then model."""
    query = select(UsageRow, KeyRow.name).outerjoin(KeyRow, KeyRow.id == UsageRow.key_id)
    if since is not None:
        query = query.where(UsageRow.day >= since)
    if key_id is not None:
        query = query.where(UsageRow.key_id == key_id)
    if model is not None:
        query = query.where(UsageRow.model_id == model)
    query = query.order_by(UsageRow.day, UsageRow.key_id, UsageRow.model_id)
    with database.read() as session:
        return [
            Usage(row.day, row.key_id, key or row.key_id, row.model_id, Sums(*(getattr(row, name) for name in _SUMS)))
            for row, key in session.execute(query)
        ]


def daily_totals(database: Database, day: date) -> dict[str, Sums]:
    """Key id → its usage of all models on that day."""
    totals: dict[str, Sums] = {}
    for row in read_usage(database, since=day):
        if row.day == day:
            totals.setdefault(row.key_id, Sums()).add(row.sums)
    return totals


def has_price(spec: ModelSpec) -> bool:
    """Whether a model's cost is known: by the prices of a hosted model; a local model costs nothing."""
    upstream = spec.upstream
    return upstream is None or not (upstream.usd_per_million_input is None or upstream.usd_per_million_output is None)


def is_free(spec: ModelSpec) -> bool:
    """Whether requests to a model cost nothing: it is local, or its prices are 0."""
    upstream = spec.upstream
    return upstream is None or (upstream.usd_per_million_input == 0 and upstream.usd_per_million_output == 0)


def cost(spec: ModelSpec, prompt_tokens: int, completion_tokens: int) -> float:
    """The cost in US dollars; 0 for a local model or one without prices."""
    upstream = spec.upstream
    if upstream is None:
        return 0.0
    input_usd, output_usd = upstream.usd_per_million_input or 0.0, upstream.usd_per_million_output or 0.0
    return (prompt_tokens * input_usd + completion_tokens * output_usd) / 1e6
