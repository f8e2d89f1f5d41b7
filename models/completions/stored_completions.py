"""Stored chat completions and responses: added by the gateway, read and changed by the API and by the commands."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import CTE, Select, Text, cast, delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.keys import KeyInfo
from models.tables import StoredCompletionRow

MAX_LISTED = 100
MAX_TURNS = 1000  # responses that continue one another
Kind = Literal["completion", "response"]
_DELETED_AT_ONCE = 1000
_TURNS_AT_ONCE = 20
_ID_PREFIXES = {"completion": "chatcmpl-", "response": "resp_"}
# The expiry of earlier responses follows that of the newest one, not more often than this.
_PROLONGED_BY = timedelta(days=1)
_READ_AT_ONCE = 500
_UNESCAPED = re.compile(r"[ !#-.0-\[\]-~]+")
# Fields whose values are not part of a conversation.
_NO_TEXT = frozenset(("role", "type", "object", "id", "call_id", "model", "finish_reason", "status"))


@dataclass(frozen=True)
class StoredCompletion:
    """A request and its answer, both in the API's format.

    `model` is the model that answered, `key_id` the key of the request (empty without keys). `expires`: None for never.
    A response (`kind`) has `input` and `output` where a chat completion has `messages` and `choices`, and continues the
    response `previous_id`: models/completions/chat_forms.py turns it into a chat completion.
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
    kind: Kind = "completion"
    previous_id: str | None = None


@dataclass(frozen=True)
class CompletionFilter:
    """Chooses stored completions by model, by pairs of metadata (all must match), by time of creation, by kind (None:
    completions and responses), by the key that stored them, and by a text in the request or the answer, in upper or
    lower case.
    """

    model: str | None = None
    metadata: Mapping[str, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    key_id: str | None = None
    text: str | None = None
    kind: Kind | None = None


_ALL = CompletionFilter()


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
                stored = completion if row is None else replace(completion, id=new_completion_id(completion.kind))
                session.add(_row(stored, place))
                session.flush()
                if stored.previous_id is not None and stored.expires is not None:
                    _prolong(session, stored.previous_id, stored.expires)

    def get(self, completion_id: str, key: KeyInfo | None = None, kind: Kind | None = None) -> StoredCompletion:
        """The completion with an id, or the response with it.

        Raises:
            NotFound: there is none with that id and kind, or another key stored it.
        """
        with self._database.read() as session:
            return _completion(_find(session, completion_id, key, kind))

    def turns(self, response_id: str, key: KeyInfo | None = None) -> Iterator[StoredCompletion]:
        """A response and those that it continues, the newest first, at most `MAX_TURNS`. The last one has a
        `previous_id` if the one before it is not stored, or another key stored it.

        Raises:
            NotFound: as `get`.
        """
        row = StoredCompletionRow
        links = _links(response_id)
        query = select(row).join(links, row.id == links.c.id).order_by(links.c.turn)
        with self._database.read() as session:
            _find(session, response_id, key, "response")
            for each in session.scalars(query.execution_options(yield_per=_TURNS_AT_ONCE)):
                if not _is_readable(each, key):
                    return
                yield _completion(each)

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
        A page of a filter with a text may have fewer.

        Raises:
            Invalid: `order` is neither asc nor desc. NotFound: there is none with the id `after`.
        """
        if order not in ("asc", "desc"):
            raise Invalid(f"order must be asc or desc, not {order[:20]!r}.", param="order")
        place = StoredCompletionRow.place
        query = _filtered(select(StoredCompletionRow), chosen, key)
        with self._database.read() as session:
            if after is not None:
                last = _find(session, after, key, chosen.kind).place
                query = query.where(place > last if order == "asc" else place < last)
            query = query.order_by(place if order == "asc" else place.desc()).limit(limit + 1)
            rows: Sequence[StoredCompletionRow] = session.scalars(query).all()
            return [_completion(row) for row in rows[:limit]], len(rows) > limit

    def get_all(self, completion_ids: Sequence[str]) -> list[StoredCompletion]:
        """The completions with these ids, in their order, without those that are no longer stored."""
        with self._database.read() as session:
            rows = session.scalars(select(StoredCompletionRow).where(StoredCompletionRow.id.in_(completion_ids)))
            stored = {row.id: _completion(row) for row in rows}
        return [stored[each] for each in completion_ids if each in stored]

    def count(self, chosen: CompletionFilter = _ALL) -> int:
        """The number of stored completions that a filter chooses; with a text, an upper bound."""
        with self._database.read() as session:
            return session.scalar(_filtered(select(func.count()).select_from(StoredCompletionRow), chosen, None)) or 0

    def models(self) -> list[str]:
        """The models with stored completions."""
        with self._database.read() as session:
            return sorted(session.scalars(select(StoredCompletionRow.model).distinct()))

    def walk(
        self, chosen: CompletionFilter, *, order: str = "asc", limit: int | None = None
    ) -> Iterator[StoredCompletion]:
        """All stored completions that a filter chooses, or the first `limit` of them, read a page at a time."""
        place, left, text = "", limit, (chosen.text or "").lower()
        column = StoredCompletionRow.place
        while left != 0:
            query = _filtered(select(StoredCompletionRow), chosen, None).limit(_READ_AT_ONCE)
            if place:
                query = query.where(column > place if order == "asc" else column < place)
            with self._database.read() as session:
                rows = session.scalars(query.order_by(column if order == "asc" else column.desc())).all()
            for row in rows:
                completion = _completion(row)
                if text and text not in _conversation_text(completion):
                    continue
                yield completion
                left = None if left is None else left - 1
                if left == 0:
                    return
            if len(rows) < _READ_AT_ONCE:
                return
            place = rows[-1].place

    def set_metadata(
        self, completion_id: str, metadata: Mapping[str, str], key: KeyInfo | None = None, kind: Kind | None = None
    ) -> StoredCompletion:
        """Replaces the metadata of a completion. Raises NotFound as `get` does."""
        with self._database.write() as session:
            row = _find(session, completion_id, key, kind)
            row.labels = dict(metadata)
            return _completion(row)

    def delete(self, completion_id: str, key: KeyInfo | None = None, kind: Kind | None = None) -> None:
        """Deletes a completion. Raises NotFound as `get` does."""
        with self._database.write() as session:
            session.delete(_find(session, completion_id, key, kind))

    def delete_expired(self) -> int:
        """Deletes expired completions, at most 1,000, and returns their number. The gateway calls it regularly."""
        expired = select(StoredCompletionRow.id).where(StoredCompletionRow.expires < utcnow()).limit(_DELETED_AT_ONCE)
        with self._database.write() as session:
            ids: Sequence[str] = session.scalars(expired).all()
            session.execute(delete(StoredCompletionRow).where(StoredCompletionRow.id.in_(ids)))
        return len(ids)


def new_completion_id(kind: Kind) -> str:
    """An id for an answer whose server gave it none, or one that another answer has."""
    return _ID_PREFIXES[kind] + new_ulid()


def _row(completion: StoredCompletion, place: str) -> StoredCompletionRow:
    return StoredCompletionRow(
        id=completion.id, place=place, created=completion.created, model=completion.model,
        key_id=completion.key_id, request_id=completion.request_id, request=dict(completion.request),
        answer=dict(completion.answer), labels=dict(completion.metadata), expires=completion.expires,
        kind=completion.kind, previous_id=completion.previous_id,
    )  # fmt: skip


def _completion(row: StoredCompletionRow) -> StoredCompletion:
    return StoredCompletion(
        row.id, row.created, row.model, row.key_id, row.request_id, row.request, row.answer, row.labels, row.expires,
        row.kind, row.previous_id,  # type: ignore[arg-type] -- checked when it was added
    )  # fmt: skip


def _links(response_id: str) -> CTE:
    """(id, previous_id, turn) of a response, whose turn is 0, and of those that it continues."""
    row = StoredCompletionRow
    first = select(row.id, row.previous_id, literal(0).label("turn")).where(row.id == response_id)
    links = first.where(row.kind == "response").cte("links", recursive=True)
    earlier = select(row.id, row.previous_id, links.c.turn + 1).join(links, row.id == links.c.previous_id)
    return links.union_all(earlier.where(row.kind == "response", links.c.turn < MAX_TURNS - 1))


def _prolong(session: Session, response_id: str, expires: datetime) -> None:
    """Keeps a response, and those that it continues, about as long as the one that continues it."""
    row = StoredCompletionRow
    ids = select(_links(response_id).c.id)
    soon = row.expires < expires - _PROLONGED_BY
    session.execute(
        update(row).where(row.id.in_(ids), soon).values(expires=expires),
        execution_options={"synchronize_session": False},
    )


def _find(session: Session, completion_id: str, key: KeyInfo | None, kind: Kind | None) -> StoredCompletionRow:
    row = session.get(StoredCompletionRow, completion_id)
    if row is None or not _is_readable(row, key) or kind not in (None, row.kind):
        if kind == "response":
            raise NotFound(f"Response with id {completion_id[:80]!r} not found.")
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
    if chosen.kind is not None:
        query = query.where(row.kind == chosen.kind)
    for name, value in (chosen.metadata or {}).items():
        query = query.where(row.labels[name].as_string() == value)
    if chosen.key_id is not None:
        query = query.where(row.key_id == chosen.key_id)
    if chosen.text and (part := _ascii_part(chosen.text)):
        query = query.where(
            or_(*(cast(column, Text).icontains(part, autoescape=True) for column in (row.request, row.answer)))
        )
    return query


def _ascii_part(text: str) -> str:
    """The longest part of a text that is the same in JSON, in which other characters are escaped."""
    return max(_UNESCAPED.findall(text), key=len, default="")


def _conversation_text(completion: StoredCompletion) -> str:
    """All texts of a request and its answer in lower case, a line each."""
    texts: list[str] = []
    left: list[Any] = [completion.answer, completion.request]
    while left:
        value = left.pop()
        if isinstance(value, str):
            texts.append(value.lower())
        elif isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += [item for name, item in value.items() if name not in _NO_TEXT]
    return "\n".join(texts)
