"""A batch deployment for each test."""

from collections.abc import Iterator

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.serve.batches.deployment import BatchDeployment, batch_deployment


@pytest.fixture
def deployment(settings: Settings, database: Database) -> Iterator[BatchDeployment]:
    """See `batch_deployment`."""
    with batch_deployment(settings, database) as made:
        yield made
