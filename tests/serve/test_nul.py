"""A NUL in a text, which PostgreSQL cannot hold: refused or not found, on either database, and never a 500."""

import json
from collections.abc import Iterator

import pytest

import parley
from models.database import Database
from models.settings.settings import Settings, load_settings
from tests.serve.gateways import Serving, serving
from tests.serve.test_gateway import ask


@pytest.fixture
def house(any_database: Database, home, request: pytest.FixtureRequest) -> Iterator[Serving]:
    settings: Settings = load_settings(home=home)
    with serving(settings, any_database, parley.api_routes(settings, any_database)) as running:
        yield running


@pytest.mark.long
def test_in_a_query(house: Serving, subtests: pytest.Subtests) -> None:
    for path in [
        "/v1/files?after=%00",
        "/v1/files?purpose=%00",
        "/v1/files?order=%00",
        "/v1/fine_tuning/jobs?after=%00",
        "/v1/fine_tuning/jobs?metadata[%00]=%00",
        "/v1/fine_tuning/jobs/x%01/events?after=%00",
        "/v1/fine_tuning/jobs/x/events?after=%00",
    ]:
        with subtests.test(path=path):
            assert ask(house.root + path)[0] in (200, 400, 404)


def test_in_a_body(house: Serving, subtests: pytest.Subtests) -> None:
    for path, body in [
        ("/v1/uploads", {"filename": "a\0b", "purpose": "fine-tune", "bytes": 5, "mime_type": "text/jsonl"}),
        ("/v1/uploads", {"filename": "a", "purpose": "fine-tune", "bytes": 5, "mime_type": "text\0jsonl"}),
        ("/v1/uploads", {"filename": "a", "purpose": "fine-tune", "bytes": 10**30, "mime_type": "x"}),
        ("/v1/fine_tuning/jobs", {"model": "m\0", "training_file": "file-x"}),
        ("/v1/fine_tuning/jobs", {"model": "m", "training_file": "file-\0"}),
        ("/v1/fine_tuning/jobs", {"model": "m", "training_file": "f", "metadata": {"a\0": "b\0"}}),
        ("/v1/parley/data/check", {"file": "file-\0"}),
        ("/v1/parley/data/check", {"file": "x", "validation_file": "\0"}),
        ("/v1/chat/completions", {"model": "m\0", "messages": []}),
    ]:
        with subtests.test(path=path, body=body):
            assert ask(house.root + path, "POST", data=json.dumps(body).encode())[0] in (200, 400, 404)
