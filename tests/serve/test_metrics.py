"""Metrics: each is in docs/metrics.md, and no text from clients becomes a label."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.keys import KeyLimits, create_key
from serve.accounting.metrics import Metrics
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_gateway import ask

ROOT = Path(__file__).parents[2]


def families(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name → labels → value."""
    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return values


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: ())


def test_each_figure_is_in_the_documentation_and_nothing_else(metrics: Metrics) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(parley_\w+)` \|", page, flags=re.MULTILINE))
    counted = {f"{family.name}_total" if family.type == "counter" else family.name for family in metrics.collect()}
    assert documented == counted
    for family in metrics.collect():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{family.name}"))
        labels = getattr(family, "_labelnames", ())
        assert all(f"`{label}`" in row for label in labels), row


def test_a_histogram_counts_as_prometheus_does(metrics: Metrics) -> None:
    for seconds in (0.005, 0.01, 0.3, 500):
        metrics.answered("/v1/models", "", 200, seconds)
    values = families(metrics.text().decode())
    labels = (("model", ""), ("route", "/v1/models"))
    buckets = {dict(key)["le"]: value for key, value in values["parley_request_seconds_bucket"].items()}
    assert (buckets["0.01"], buckets["0.25"], buckets["0.5"], buckets["120.0"], buckets["+Inf"]) == (2, 2, 3, 3, 4)
    assert values["parley_request_seconds_count"][labels] == 4
    assert values["parley_request_seconds_sum"][labels] == pytest.approx(500.315)


@pytest.mark.long
def test_hostile_requests_add_no_labels(gateway: Serving, upstream: PacedUpstream) -> None:
    gateway.hosted("whole", "busy", base_url=f"{upstream.address}/v1")
    secret = create_key(
        gateway.database, name="app", role="client", models=["whole"], limits=KeyLimits(requests_per_minute=3)
    )
    owner = create_key(gateway.database, name="boss", role="owner")
    gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    for number in range(30):
        body = b'{"model": "evil-%d", "messages": []}' % number
        ask(f"{gateway.base_url}/chat/completions", "POST", secret, body)
        ask(f"{gateway.base_url}/chat/completions", "POST", f"pk-evil-{number}", body)
        ask(f"{gateway.base_url}/evil-{number}", "GET", secret)
        ask(f"{gateway.base_url}/models/evil-{number}", "GET", secret)
        ask(f"{gateway.root}/evil-{number}/{number}", "PUT", secret, b"{}")
        ask(f"{gateway.base_url}/chat/completions", "POST", secret, b'{"model": "busy", "messages": []}')
    for _ in range(5):
        ask(f"{gateway.base_url}/chat/completions", "POST", secret, b'{"model": "whole", "messages": []}')
    text = ask_text(gateway, owner)
    assert "evil" not in text
    labels_by_name: dict[str, set[str]] = {}
    for labels in families(text)["parley_requests_total"]:
        for name, value in labels:
            labels_by_name.setdefault(name, set()).add(value)
    assert labels_by_name["route"] <= {"/v1/chat/completions", "/v1/models", "/v1/models/{model}", "other"}
    assert labels_by_name["model"] == {"", "whole"}
    assert labels_by_name["key"] == {"", "app"}
    assert families(text)["parley_rate_limited_total"] == {(("key", "app"), ("limit", "requests")): 2}


def ask_text(gateway: Serving, key: str) -> str:
    import urllib.request

    request = urllib.request.Request(f"{gateway.root}/metrics", headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()
