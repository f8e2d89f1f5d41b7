"""A batch house for each test."""

from collections.abc import Iterator

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.serve.batches.house import BatchHouse, batch_house


@pytest.fixture
def house(settings: Settings, database: Database) -> Iterator[BatchHouse]:
    """See `batch_house`."""
    with batch_house(settings, database) as made:
        yield made
