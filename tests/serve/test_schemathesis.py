"""Requests made from the OpenAPI document, against a gateway process: no 5xx, no traceback, answers as described.

These are fewer than the 10,000 of `python -m bench.schemathesis`, which take two minutes of two cores.
"""

from pathlib import Path

import pytest

from bench.schemathesis.__main__ import Findings, run
from bench.schemathesis.server import run_gateway


def good(findings: Findings, cases: int) -> None:
    assert findings.faults == {}
    assert findings.tracebacks == 0
    assert findings.cases >= cases
    assert not [status for status in findings.statuses if status.startswith("5")]
    # Not every request was refused.
    assert findings.statuses["200"] > findings.cases / 10


@pytest.mark.long
def test_a_few_requests_of_each_kind_are_answered_as_described(tmp_path: Path) -> None:
    with run_gateway(tmp_path / "home") as running:
        good(run(running, cases=70, seed=7), 60)


@pytest.mark.long
def test_a_thousand_requests_find_nothing(tmp_path: Path) -> None:
    with run_gateway(tmp_path / "home") as running:
        good(run(running, cases=1000, seed=1, workers=2), 1000)


@pytest.mark.long
def test_postgresql_takes_as_much(tmp_path: Path, migrated_postgres_url: str) -> None:
    with run_gateway(tmp_path / "home", migrated_postgres_url) as running:
        good(run(running, cases=300, seed=3), 300)
