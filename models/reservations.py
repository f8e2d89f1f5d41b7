"""Memory that a job asks for before it takes it: who starts engines makes room for it, and starts none into it.

A reservation ends by itself soon after nobody renews it, so that a job that was killed holds none.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select

from models.database import Database, utcnow
from models.tables import ReservationRow


def reserve(database: Database, holder: str, size: int, seconds: float) -> None:
    """Asks for `size` bytes for so many seconds, or renews what the holder has asked for.

    The memory is the graphics card's where engines run on one, else the machine's.
    """
    with database.write() as session:
        session.merge(ReservationRow(holder=holder, size=size, until=utcnow() + timedelta(seconds=seconds)))


def release(database: Database, holder: str) -> None:
    """Takes back what a holder has asked for."""
    with database.write() as session:
        session.execute(delete(ReservationRow).where(ReservationRow.holder == holder))


def reserved(database: Database) -> int:
    """Bytes that are asked for now, all holders together."""
    query = select(func.sum(ReservationRow.size)).where(ReservationRow.until > utcnow())
    with database.read() as session:
        return int(session.scalar(query) or 0)
