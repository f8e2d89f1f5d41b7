"""Reservations on both databases: they add up, are renewed and released, and expire."""

import pytest

from models.database import Database
from models.jobs.jobs import release_memory, reserve_memory, reserved_memory


@pytest.mark.long
def test_they_add_up_and_end(any_database: Database) -> None:
    assert reserved_memory(any_database) == 0
    reserve_memory(any_database, "one", 5 * 2**30, 60)
    reserve_memory(any_database, "two", 2**30, 60)
    assert reserved_memory(any_database) == 6 * 2**30
    reserve_memory(any_database, "one", 2**30, 60)
    assert reserved_memory(any_database) == 2 * 2**30
    release_memory(any_database, "two")
    reserve_memory(any_database, "one", 2**30, -1)
    assert reserved_memory(any_database) == 0
