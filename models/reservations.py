"""Memory reservations of jobs. The supervisor stops engines to satisfy them and starts none in reserved memory.

A reservation expires unless it is renewed, so a killed job holds none.
"""

from datetime import timedelta

from sqlalchemy import delete, func, select

from models.database import Database, utcnow
from models.tables import ReservationRow


def reserve(database: Database, holder: str, size: int, seconds: float) -> None:
    """Reserves `size` bytes for `seconds`, or renews the holder's reservation.

    It is GPU memory if engines run on a GPU, otherwise the machine's.
    """
    with database.write() as session:
        session.merge(ReservationRow(holder=holder, size=size, until=utcnow() + timedelta(seconds=seconds)))


def release(database: Database, holder: str) -> None:
    """Ends a holder's reservation."""
    with database.write() as session:
        session.execute(delete(ReservationRow).where(ReservationRow.holder == holder))


def reserved(database: Database) -> int:
    """All bytes reserved now."""
    query = select(func.sum(ReservationRow.size)).where(ReservationRow.until > utcnow())
    with database.read() as session:
        return int(session.scalar(query) or 0)
