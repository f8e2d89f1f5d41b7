"""Fixtures of the serve tests: a gateway on a socket, and a paced upstream behind it."""

from collections.abc import Iterator

import pytest

from models.database import Database, open_database, upgrade
from models.settings.settings import Settings, load_settings
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PLANS, PacedUpstream, Seen


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[PacedUpstream]:
    with PacedUpstream() as server:
        yield server


@pytest.fixture
def upstream(shared_upstream: PacedUpstream) -> PacedUpstream:
    """A paced upstream without recorded requests."""
    shared_upstream.seen = Seen()
    shared_upstream.chunks = 4
    return shared_upstream


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Iterator[Serving]:
    """A gateway of the test's own, without models."""
    with serving(settings, database) as running:
        yield running


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, shared_upstream: PacedUpstream) -> Iterator[Serving]:
    """A gateway with each plan of the upstream as a hosted model, and the upstream once as an engine."""
    home = tmp_path_factory.mktemp("gateway")
    settings = load_settings(home=home)
    upgrade(settings)
    database = open_database(settings)
    with serving(settings, database) as running:
        running.hosted(*PLANS, base_url=f"{shared_upstream.address}/v1")
        running.engine("engine", home / "weights", shared_upstream.address)
        yield running
    database.dispose()
