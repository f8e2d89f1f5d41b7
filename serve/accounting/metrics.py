"""The gateway's Prometheus metrics. docs/metrics.md documents each of them.

Label values are bounded: registered models, names of keys, the gateway's own routes, status codes; never text from a
client. Values are plain numbers in dicts, used on the event loop only: the library's own counters take a lock and cost
ten times as much, so it only renders the text.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
Labels = tuple[str, ...]


class Gauge:
    """A current number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """Adds one."""
        self.value += 1

    def dec(self) -> None:
        """Subtracts one."""
        self.value -= 1


class ModelGauge:
    """A current number per model."""

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}

    def inc(self, model: str) -> None:
        """Adds one."""
        self.values[model,] = self.values.get((model,), 0) + 1

    def dec(self, model: str) -> None:
        """Subtracts one."""
        self.values[model,] -= 1


class Histogram:
    """A histogram for one set of labels."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """Adds a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound, cumulative count) for each bucket as in Prometheus, and the sum of all values."""
        up_to, buckets = 0, []
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), self._counts, strict=True):
            up_to += count
            buckets.append((bound, float(up_to)))
        return buckets, self._sum


class _Histograms(dict[Labels, Histogram]):
    """A histogram per set of labels, created at first use."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, labels: Labels) -> Histogram:
        spread = self[labels] = Histogram(self._bounds)
        return spread


class _Counters(dict[Any, float]):
    """Counters per set of labels, starting at 0."""

    def __missing__(self, labels: Any) -> float:
        return 0


class _Answers:
    """Requests with one set of labels: one lookup for both of their metrics."""

    __slots__ = ("count", "seconds")

    def __init__(self, seconds: Histogram) -> None:
        self.count, self.seconds = 0, seconds


class _Usage:
    """The usage of one model by one key."""

    __slots__ = ("completion", "prompt", "usd")

    def __init__(self) -> None:
        self.prompt, self.completion, self.usd = 0, 0, 0.0


class Metrics(Collector):
    """Collects all metrics. Its methods are called about once per request, on the event loop's thread only."""

    def __init__(
        self,
        model_states: Callable[[], Iterable[tuple[str, str]]],
        replica_states: Callable[[], Mapping[tuple[str, str], int]] = dict,
        running_requests: Callable[[], Iterable[tuple[str, int]]] = tuple,
    ) -> None:
        """
        Args:
            model_states: returns (model id, state) pairs.
            replica_states: returns (model id, state) → number of the model's engines in that state.
            running_requests: returns (engine's name, running requests) pairs.
        """
        self._model_states, self._replica_states = model_states, replica_states
        self._running_requests = running_requests
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.in_flight, self.waiting = Gauge(), ModelGauge()
        self._answers: dict[tuple[str, str, str, int], _Answers] = {}
        self._usage: dict[Labels, _Usage] = {}
        self._errors, self._limited, self._fallbacks = _Counters(), _Counters(), _Counters()
        self._retries = _Counters()
        self._seconds, self._ttft, self._token_seconds = (
            _Histograms(_SECONDS),
            _Histograms(_SECONDS),
            _Histograms(_TOKEN_SECONDS),
        )
        self._queue = _Histograms(_SECONDS)
        self._breakers: dict[str, str] = {}

    def answered(self, route: str, model: str, code: int, seconds: float, key: str = "") -> None:
        """A request is complete. `route` is one of the gateway's own, `model` a registered id, `key` a key's name or
        empty.
        """
        answers = self._answers.get((route, model, key, code))
        if answers is None:
            answers = self._answers[route, model, key, code] = _Answers(self._seconds[route, model])
        answers.count += 1
        answers.seconds.observe(seconds)

    def streamed(self, model: str, first_s: float, rest_s: float, tokens: int) -> None:
        """A stream is complete: time to its first piece, time after that, and its number of tokens (0: unknown)."""
        self._ttft[model,].observe(first_s)
        if tokens > 1:
            self._token_seconds[model,].observe(rest_s / (tokens - 1))

    def used(self, model: str, prompt: int, completion: int, key: str = "", usd: float = 0.0) -> None:
        """Prompt and completion tokens, and their cost."""
        usage = self._usage.get((model, key))
        if usage is None:
            usage = self._usage[model, key] = _Usage()
        usage.prompt += prompt
        usage.completion += completion
        usage.usd += usd

    def failed(self, model: str, how: str) -> None:
        """An engine or upstream failed: connect, timeout, broken, or a status of 500 and above."""
        self._errors[model, how] += 1

    def queued(self, model: str, seconds: float) -> None:
        """A request waited for its model to start, or for a free slot."""
        self._queue[model,].observe(seconds)

    def limited(self, key: str, why: str) -> None:
        """A key's limit rejected a request. `why` is the error's type: `requests`, `tokens` or `insufficient_quota`."""
        self._limited[key, why] += 1

    def fell_back(self, model: str, to: str) -> None:
        """A request was sent to a fallback of its model."""
        self._fallbacks[model, to] += 1

    def retried(self, model: str) -> None:
        """A request was sent to another replica of its model."""
        self._retries[model,] += 1

    def breaker(self, model: str, state: str) -> None:
        """The circuit breaker of an upstream or a replica changed to `closed`, `open` or `half_open`."""
        self._breakers[model] = state

    def breaker_removed(self, model: str) -> None:
        """The server that this circuit breaker belonged to is gone."""
        self._breakers.pop(model, None)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The current values, for the registry."""
        running = {(engine,): count for engine, count in self._running_requests()}  # first: it drops removed servers
        answered = {labels: counts.count for labels, counts in self._answers.items()}
        yield _counter("parley_requests", "Completed requests.", ("route", "model", "key", "code"), answered)
        yield _histogram(
            "parley_request_seconds",
            "Seconds from a request to the end of its response.",
            ("route", "model"),
            self._seconds,
        )
        yield _histogram(
            "parley_time_to_first_token_seconds", "Seconds from a request to the first piece of its stream.",
            ("model",), self._ttft,
        )  # fmt: skip
        yield _histogram(
            "parley_time_per_output_token_seconds", "Seconds per token of a stream after the first.",
            ("model",), self._token_seconds,
        )  # fmt: skip
        used = self._usage.items()
        tokens = {(*labels, "prompt"): counts.prompt for labels, counts in used}
        tokens |= {(*labels, "completion"): counts.completion for labels, counts in used}
        yield _counter("parley_tokens", "Prompt and completion tokens.", ("model", "key", "direction"), tokens)
        usd = {labels: counts.usd for labels, counts in used if counts.usd}
        yield _counter("parley_usd", "Cost of hosted models in US dollars.", ("model", "key"), usd)
        in_flight = {(): self.in_flight.value}
        yield _gauge("parley_requests_in_flight", "Requests in progress.", (), in_flight)
        yield _gauge("parley_requests_waiting", "Requests that wait for a model.", ("model",), self.waiting.values)
        yield _histogram(
            "parley_request_queue_seconds", "Seconds that requests waited for a model.", ("model",), self._queue
        )
        yield _counter("parley_rate_limited", "Requests rejected by a key's limit.", ("key", "limit"), self._limited)
        yield _counter(
            "parley_upstream_errors", "Failures of engines and upstreams, by kind.", ("model", "how"), self._errors
        )
        yield _counter("parley_fallbacks", "Requests sent to a fallback model.", ("model", "to"), self._fallbacks)
        yield _counter("parley_replica_retries", "Requests sent to another replica.", ("model",), self._retries)
        breakers = dict.fromkeys(self._breakers.items(), 1.0)
        yield _gauge(
            "parley_breaker_state", "1 for the current state of a circuit breaker.", ("model", "state"), breakers
        )
        states = dict.fromkeys(self._model_states(), 1.0)
        yield _gauge("parley_model_state", "1 for the current state of a model.", ("model", "state"), states)
        replicas = self._replica_states()
        yield _gauge("parley_replicas", "Engines of a model, by their state.", ("model", "state"), replicas)
        yield _gauge("parley_engine_requests_running", "Requests that an engine runs.", ("engine",), running)


def _counter(name: str, what: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in key], value)
    return family


def _gauge(name: str, what: str, labels: Labels, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, what: str, labels: Labels, spreads: Mapping[Labels, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, what, labels=labels)
    for key, spread in spreads.items():
        buckets, total = spread.cumulative()
        family.add_metric(key, buckets, total)
    return family
