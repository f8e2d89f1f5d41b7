"""OpenTelemetry: the spans and metrics that a collector receives; and the metrics of the example dashboard."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.completions.routes import completion_routes
from models.database import Database
from models.settings.settings import Settings
from serve.accounting.metrics import Metrics
from serve.accounting.telemetry import open_telemetry
from tests.otlp_collector import Collector, collecting, values
from tests.serve.gateways import serving
from tests.serve.paced_upstream import PacedUpstream

ROOT = Path(__file__).parent.parent.parent
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as receiver:
        yield receiver


@pytest.mark.long
@pytest.mark.parametrize(
    ("opt_in", "provider"), [("", "gen_ai.system"), ("http,gen_ai_latest_experimental", "gen_ai.provider.name")]
)
def test_a_collector_gets_spans_and_histograms_and_no_prompt(
    settings: Settings, database: Database, upstream: PacedUpstream, collector: Collector, opt_in: str, provider: str
) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    watched = settings.model_copy(update={"otel_endpoint": collector.endpoint, "otel_semconv_opt_in": opt_in})
    with serving(watched, database, completion_routes(database)) as gateway:
        gateway.hosted("normal", "refuses", base_url=f"{upstream.address}/v1")
        for model, stream in (("normal", False), ("normal", True)):
            body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "a secret prompt"}]}
            request = urllib.request.Request(
                f"{gateway.base_url}/chat/completions",
                json.dumps(body).encode(),
                {"content-type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
        rating = urllib.request.Request(
            f"{gateway.base_url}/feedback",
            b'{"id": "an-answer", "value": true}',
            {"content-type": "application/json"},
        )
        urllib.request.urlopen(rating, timeout=10).close()
    assert b"an-answer" in b"".join(collector.bodies["/v1/logs"])
    sent = b"".join(body for bodies in collector.bodies.values() for body in bodies)
    assert b"secret prompt" not in sent
    spans = [
        span
        for body in collector.bodies["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.name for span in spans] == ["chat normal"] * 2
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert {span.parent_span_id.hex() for span in spans} == {PARENT}
    attributes = values(spans[0].attributes)
    assert attributes[provider] == "127.0.0.1"
    assert attributes.keys() >= {"gen_ai.response.model", "gen_ai.usage.input_tokens", "http.response.status_code"}
    assert len({"gen_ai.system", "gen_ai.provider.name"} & attributes.keys()) == 1
    assert spans[0].end_time_unix_nano > spans[0].start_time_unix_nano
    histograms = {
        metric.name: metric.histogram.data_points[0]
        for body in collector.bodies["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert histograms["gen_ai.server.request.duration"].count == 2
    assert histograms["gen_ai.server.time_to_first_token"].count == 1
    assert histograms["gen_ai.server.time_to_first_token"].explicit_bounds[0] == 0.001


def test_without_an_endpoint_there_is_none(settings: Settings) -> None:
    assert open_telemetry(settings) is None


def test_every_metric_of_the_example_dashboard_exists() -> None:
    metrics = Metrics(list)
    families = {family.name: family.type for family in metrics.collect()}
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    exist = {name + suffix for name, kind in families.items() for suffix in suffixes[kind]}
    exist |= set(re.findall(r"^(process_\w+) ", metrics.text().decode(), flags=re.MULTILINE))
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"\b(?:parley|process)_\w+", query)}
    assert used <= exist
    assert len(used) > 12
