"""Fixtures of the serve tests: a gateway on a socket, and a paced upstream behind it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.database import Database
from models.settings import Settings
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PLANS, PacedUpstream


@pytest.fixture
def upstream() -> Iterator[PacedUpstream]:
    with PacedUpstream() as server:
        yield server


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Iterator[Serving]:
    with serving(settings, database) as running:
        yield running


@pytest.fixture
def both(gateway: Serving, upstream: PacedUpstream, tmp_path: Path) -> Serving:
    """A gateway that knows each plan of the upstream as a hosted model, and the upstream once as an engine."""
    gateway.hosted(*PLANS, base_url=f"{upstream.address}/v1")
    gateway.engine("engine", tmp_path / "weights", upstream.address)
    return gateway
