"""Reservations on both databases: they add up, are renewed and taken back, and end by themselves."""

from models.database import Database
from models.reservations import release, reserve, reserved


def test_they_add_up_and_end(any_database: Database) -> None:
    assert reserved(any_database) == 0
    reserve(any_database, "one", 5 * 2**30, 60)
    reserve(any_database, "two", 2**30, 60)
    assert reserved(any_database) == 6 * 2**30
    reserve(any_database, "one", 2**30, 60)
    assert reserved(any_database) == 2 * 2**30
    release(any_database, "two")
    reserve(any_database, "one", 2**30, -1)
    assert reserved(any_database) == 0
