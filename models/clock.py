"""The current time, and ids that sort by it. Does not import the database's libraries, which take 0.3 s to load."""

from datetime import UTC, datetime

from ulid import ULID


def utcnow() -> datetime:
    """The current time in UTC, with its time zone."""
    return datetime.now(UTC)


def new_ulid() -> str:
    """A new id of 26 characters that sorts by creation time."""
    return str(ULID())
