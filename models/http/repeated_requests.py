"""Recognises a request that the SDK repeats because it got no response, so that it does not create a second object."""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from models.database import Database, utcnow
from models.http.payloads import is_retry

if TYPE_CHECKING:
    from starlette.requests import Request

_REPEATED_WITHIN = timedelta(minutes=15)  # the SDK waits up to ten minutes for a response before it repeats a request


@dataclass(frozen=True)
class Caller:
    """Who sends a request: the id of the key, and whether the SDK repeats a request that got no response."""

    key: str = ""
    repeated: bool = False


def caller_of(request: "Request") -> Caller:
    """The caller of a request to a mounted route."""
    key = getattr(request.state, "key", None)
    return Caller(key.id if key else "", is_retry(request))


def request_digest(caller: Caller, content: Any) -> str:
    """The hash that identifies a repeated request."""
    return hashlib.sha256(f"{caller.key}:{json.dumps(content, sort_keys=True)}".encode()).hexdigest()


def find_repeated(database: Database, table: Any, digest: str) -> Any:
    """The row that the same request created within the last 15 minutes; None if there is none."""
    query = select(table).where(table.digest == digest, table.created > utcnow() - _REPEATED_WITHIN)
    with database.read() as session:
        return session.scalars(query.order_by(table.number.desc()).limit(1)).first()
