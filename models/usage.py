"""Usage by key, model and UTC day, and its cost. Only serve/accounting/usage_log.py counts it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Database
from models.spec import ModelSpec
from models.tables import KeyRow, UsageRow

# How usage without a key is called, and that of our own page and worker.
NO_KEY, PAGE_KEY = "", "page"
_SUMS = ("requests", "failed", "prompt_tokens", "completion_tokens", "usd")


class Slot(NamedTuple):
    """What one sum is of. `key_id` is NO_KEY where none was needed, PAGE_KEY for Parley's own page and worker."""

    day: date
    key_id: str
    model_id: str


@dataclass
class Sums:
    """So much was used. `failed` of the `requests` were answered with an error; `usd` by the prices of that moment."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    @property
    def tokens(self) -> int:
        """Read and written together: what a daily budget counts."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, other: "Sums") -> None:
        """Adds another one to this one."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Usage:
    """One row: a key's use of a model on a day. `key` is its name; empty where no key was needed."""

    day: date
    key_id: str
    key: str
    model: str
    sums: Sums

    def to_json(self) -> dict[str, Any]:
        """Flat, with the day as text."""
        row = {"day": self.day.isoformat(), "key_id": self.key_id, "key": self.key, "model": self.model}
        return row | asdict(self.sums)


def add_usage(database: Database, used: Mapping[Slot, Sums]) -> None:
    """Adds to the sums, all of it in one transaction."""
    insert = sqlite.insert if database.is_sqlite else postgresql.insert
    statement = insert(UsageRow)
    raised = {name: getattr(UsageRow, name) + statement.excluded[name] for name in _SUMS}
    statement = statement.on_conflict_do_update(index_elements=["day", "key_id", "model_id"], set_=raised)
    # In one order, so that two who write at once wait for each other, and never both.
    rows = [slot._asdict() | asdict(used[slot]) for slot in sorted(used)]
    with database.connection() as connection:
        connection.execute(statement, rows)


def read_usage(
    database: Database, *, since: date | None = None, key_id: str | None = None, model: str | None = None
) -> list[Usage]:
    """The sums, by day, then key, then model."""
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
            Usage(row.day, row.key_id, name or row.key_id, row.model_id, Sums(*(getattr(row, one) for one in _SUMS)))
            for row, name in session.execute(query)
        ]


def daily_totals(database: Database, day: date) -> dict[str, Sums]:
    """Key id → what it has used on that day, all models together."""
    found: dict[str, Sums] = {}
    for row in read_usage(database, since=day):
        if row.day == day:
            found.setdefault(row.key_id, Sums()).add(row.sums)
    return found


def has_price(spec: ModelSpec) -> bool:
    """Whether it is known what a request costs: of a hosted model by its prices; one that runs here costs nothing."""
    upstream = spec.upstream
    return upstream is None or not (upstream.usd_per_million_input is None or upstream.usd_per_million_output is None)


def cost(spec: ModelSpec, prompt_tokens: int, completion_tokens: int) -> float:
    """What so many tokens cost, in US dollars; 0 for a model that runs here, or has no price."""
    upstream = spec.upstream
    if upstream is None:
        return 0.0
    read, written = upstream.usd_per_million_input or 0.0, upstream.usd_per_million_output or 0.0
    return (prompt_tokens * read + completion_tokens * written) / 1e6
