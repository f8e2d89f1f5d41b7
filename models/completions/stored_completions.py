"""Stored chat completions: added by the gateway, read and changed by the API and by the commands."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, select

from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.keys import KeyInfo
from models.tables import StoredCompletionRow

MAX_LISTED = 100
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class StoredCompletion:
    """A request and its answer, both in the API's format.

    `model` is the model that answered, `key_id` the key of the request (empty without keys). `expires`: None for never.
    """

    id: str
    created: datetime
    model: str
    key_id: str
    request_id: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any]
    metadata: Mapping[str, str]
    expires: datetime | None = None


@dataclass(frozen=True)
class CompletionFilter:
    """Chooses stored completions by model, by pairs of metadata (all must match), and by time of creation."""

    model: str | None = None
    metadata: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class StoredCompletions:
    """The stored completions of a database. `key` limits most methods to what that key stored, unless it is an
    owner's; None stands for no key.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, completions: Iterable[StoredCompletion]) -> None:
        """Stores completions in order. A completion whose request is stored already is left out. One with the id of
        another request gets a new id, because some servers give all answers the same id.
        """
        listed = list(completions)
        places = sorted(new_ulid() for _ in listed)  # ULIDs of one millisecond are in no order
        with self._database.write() as session:
            for completion, place in zip(listed, places, strict=True):
                row = session.get(StoredCompletionRow, completion.id)
                if row is not None and row.request_id == completion.request_id:
                    continue
                stored = completion if row is None else replace(completion, id=f"chatcmpl-{new_ulid()}")
                session.add(_row(stored, place))
                session.flush()

    def get(self, completion_id: str, key: KeyInfo | None = None) -> StoredCompletion:
        """The completion with an id.

        Raises:
            NotFound: there is none with that id, or another key stored it.
        """
        with self._database.read() as session:
            return _completion(_find(session.get(StoredCompletionRow, completion_id), completion_id, key))

    def page(
        self,
        chosen: CompletionFilter,
        key: KeyInfo | None = None,
        *,
        after: str | None = None,
        limit: int = 20,
        order: str = "asc",
    ) -> tuple[list[StoredCompletion], bool]:
        """At most `limit` completions after the id `after`, in the order of their creation, and whether more follow.

        Raises:
            Invalid: `order` is neither asc nor desc. NotFound: there is none with the id `after`.
        """
        if order not in ("asc", "desc"):
            raise Invalid(f"order must be asc or desc, not {order[:20]!r}.", param="order")
        place = StoredCompletionRow.place
        query = _filtered(select(StoredCompletionRow), chosen, key)
        with self._database.read() as session:
            if after is not None:
                last = _find(session.get(StoredCompletionRow, after), after, key).place
                query = query.where(place > last if order == "asc" else place < last)
            query = query.order_by(place if order == "asc" else place.desc()).limit(limit + 1)
            rows: Sequence[StoredCompletionRow] = session.scalars(query).all()
            return [_completion(row) for row in rows[:limit]], len(rows) > limit

    def walk(
        self, chosen: CompletionFilter, *, order: str = "asc", limit: int | None = None
    ) -> Iterator[StoredCompletion]:
        """All stored completions that a filter chooses, or the first `limit` of them, read a page at a time."""
        after, left, has_more = None, limit, True
        while has_more and left != 0:
            size = MAX_LISTED if left is None else min(left, MAX_LISTED)
            page, has_more = self.page(chosen, after=after, limit=size, order=order)
            yield from page
            after, left = page[-1].id if page else None, None if left is None else left - len(page)

    def set_metadata(
        self, completion_id: str, metadata: Mapping[str, str], key: KeyInfo | None = None
    ) -> StoredCompletion:
        """Replaces the metadata of a completion. Raises NotFound as `get` does."""
        with self._database.write() as session:
            row = _find(session.get(StoredCompletionRow, completion_id), completion_id, key)
            row.labels = dict(metadata)
            return _completion(row)

    def delete(self, completion_id: str, key: KeyInfo | None = None) -> None:
        """Deletes a completion. Raises NotFound as `get` does."""
        with self._database.write() as session:
            session.delete(_find(session.get(StoredCompletionRow, completion_id), completion_id, key))

    def delete_expired(self) -> int:
        """Deletes expired completions, at most 1,000, and returns their number. The gateway calls it regularly."""
        expired = select(StoredCompletionRow.id).where(StoredCompletionRow.expires < utcnow()).limit(_DELETED_AT_ONCE)
        with self._database.write() as session:
            ids: Sequence[str] = session.scalars(expired).all()
            session.execute(delete(StoredCompletionRow).where(StoredCompletionRow.id.in_(ids)))
        return len(ids)


def _row(completion: StoredCompletion, place: str) -> StoredCompletionRow:
    return StoredCompletionRow(
        id=completion.id, place=place, created=completion.created, model=completion.model,
        key_id=completion.key_id, request_id=completion.request_id, request=dict(completion.request),
        answer=dict(completion.answer), labels=dict(completion.metadata), expires=completion.expires,
    )  # fmt: skip


def _completion(row: StoredCompletionRow) -> StoredCompletion:
    return StoredCompletion(
        row.id, row.created, row.model, row.key_id, row.request_id, row.request, row.answer, row.labels, row.expires
    )


def _find(row: StoredCompletionRow | None, completion_id: str, key: KeyInfo | None) -> StoredCompletionRow:
    if row is None or not _is_readable(row, key):
        raise NotFound(f"There is no stored completion {completion_id[:80]!r}.", param="completion_id")
    return row


def _is_readable(row: StoredCompletionRow, key: KeyInfo | None) -> bool:
    return key is None or key.role == "owner" or row.key_id == key.id


def _filtered(query: Select[Any], chosen: CompletionFilter, key: KeyInfo | None) -> Select[Any]:
    row = StoredCompletionRow
    if key is not None and key.role != "owner":
        query = query.where(row.key_id == key.id)
    if chosen.model is not None:
        query = query.where(row.model == chosen.model)
    if chosen.created_after is not None:
        query = query.where(row.created >= chosen.created_after)
    if chosen.created_before is not None:
        query = query.where(row.created < chosen.created_before)
    for name, value in (chosen.metadata or {}).items():
        query = query.where(row.labels[name].as_string() == value)
    return query
