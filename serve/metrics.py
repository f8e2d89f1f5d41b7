"""The gateway's figures, for Prometheus. Label values are bounded: models that are registered, known routes, codes.

A registry of its own for each application, so that two gateways in one process do not add up.
"""

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.snapshot import Snapshot

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)


class Metrics:
    """Counters and histograms; the methods are what the data path calls, once a request or so."""

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineStates(current))
        self._requests = Counter(
            "parley_requests", "Requests answered.", ("route", "model", "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "parley_request_seconds", "Seconds from a request to the end of its answer.", ("route", "model"),
            registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._first = Histogram(
            "parley_time_to_first_token_seconds", "Seconds from a request to the first byte of its stream.",
            ("model",), registry=self._registry, buckets=_SECONDS,
        )  # fmt: skip
        self._each = Histogram(
            "parley_time_per_output_token_seconds", "Seconds for each token of a stream after its first.",
            ("model",), registry=self._registry, buckets=_TOKEN_SECONDS,
        )  # fmt: skip
        self._tokens = Counter("parley_tokens", "Tokens.", ("model", "direction"), registry=self._registry)
        self._errors = Counter(
            "parley_upstream_errors", "Engines and upstreams that failed, by how.", ("model", "how"),
            registry=self._registry,
        )  # fmt: skip
        self.in_flight = Gauge("parley_requests_in_flight", "Requests not answered yet.", registry=self._registry)
        self.waiting = Gauge(
            "parley_requests_waiting", "Requests that wait for a model to start.", registry=self._registry
        )
        # Finding a label's counter costs more than raising it, and is done for every request.
        self._requests_of = cache(self._requests.labels)
        self._seconds_of = cache(self._seconds.labels)
        self._tokens_of = cache(self._tokens.labels)

    def answered(self, route: str, model: str, code: int, seconds: float) -> None:
        """A request is over."""
        self._requests_of(route, model, code).inc()
        self._seconds_of(route, model).observe(seconds)

    def streamed(self, model: str, first_s: float, rest_s: float, tokens: int) -> None:
        """A stream is over: the time to its first piece, the time from there, how many tokens came (0: unknown)."""
        self._first.labels(model).observe(first_s)
        if tokens > 1:
            self._each.labels(model).observe(rest_s / (tokens - 1))

    def used(self, model: str, prompt: int, completion: int) -> None:
        """Tokens read and written."""
        self._tokens_of(model, "prompt").inc(prompt)
        self._tokens_of(model, "completion").inc(completion)

    def failed(self, model: str, how: str) -> None:
        """An engine or upstream failed: connect, timeout, broken, or a status of 500 and up."""
        self._errors.labels(model, how).inc()

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)


class _EngineStates(Collector):
    """Each served model's state, read from the snapshot when somebody looks."""

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("parley_model_state", "1 for the state a model is in.", labels=("model", "state"))
        for name, route in self._current().routes.items():
            if name == route.spec.id:
                family.add_metric([name, route.state.state], 1)
        return [family]
