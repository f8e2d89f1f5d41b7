"""The gateway's figures, for Prometheus: docs/metrics.md has each of them in a row.

Label values are bounded: models that are registered, names of keys that were made, the gateway's own routes, codes.
Nothing that a client wrote becomes a label. Counting is plain numbers in plain dicts, on the event loop alone: the
library's own counters take a lock and cost ten times as much; it writes the text when somebody asks for it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serve.gateway.snapshot import Snapshot

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
Labels = tuple[str, ...]


class Level:
    """How many there are now."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1

    def dec(self) -> None:
        """One less."""
        self.value -= 1


class Levels:
    """How many there are now of each model."""

    def __init__(self) -> None:
        self.values: dict[Labels, float] = {}

    def inc(self, model: str) -> None:
        """One more."""
        self.values[model,] = self.values.get((model,), 0) + 1

    def dec(self, model: str) -> None:
        """One less."""
        self.values[model,] -= 1


class Spread:
    """A histogram of one set of labels."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def told(self) -> tuple[list[tuple[str, float]], float]:
        """(upper bound, so many up to it) for each bucket, as Prometheus counts; and the sum of all values."""
        up_to, buckets = 0, []
        for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), self._counts, strict=True):
            up_to += count
            buckets.append((bound, float(up_to)))
        return buckets, self._sum


class _Spreads(dict[Labels, Spread]):
    """A histogram by labels; each set of labels has one from the first time it is asked for."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__()
        self._bounds = bounds

    def __missing__(self, labels: Labels) -> Spread:
        spread = self[labels] = Spread(self._bounds)
        return spread


class _Counts(dict[Any, float]):
    """Counters by labels, from 0."""

    def __missing__(self, labels: Any) -> float:
        return 0


class _Answers:
    """Requests with one set of labels: one look-up for both of their figures."""

    __slots__ = ("count", "seconds")

    def __init__(self, seconds: Spread) -> None:
        self.count, self.seconds = 0, seconds


class _Usage:
    """What one key has used of one model."""

    __slots__ = ("completion", "prompt", "usd")

    def __init__(self) -> None:
        self.prompt, self.completion, self.usd = 0, 0, 0.0


class Metrics(Collector):
    """The methods are what the data path calls, once a request or so. All of it on the event loop's thread."""

    def __init__(self, current: Callable[[], Snapshot]) -> None:
        self._current = current
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.in_flight, self.waiting = Level(), Levels()
        self._answers: dict[tuple[str, str, str, int], _Answers] = {}
        self._usage: dict[Labels, _Usage] = {}
        self._errors, self._limited, self._fallbacks = _Counts(), _Counts(), _Counts()
        self._seconds, self._first, self._each = _Spreads(_SECONDS), _Spreads(_SECONDS), _Spreads(_TOKEN_SECONDS)
        self._queue = _Spreads(_SECONDS)
        self._breakers: dict[str, str] = {}

    def answered(self, route: str, model: str, code: int, seconds: float, key: str = "") -> None:
        """A request is over. `route` is one of our own, `model` a registered id, `key` the name of a key, or empty."""
        answers = self._answers.get((route, model, key, code))
        if answers is None:
            answers = self._answers[route, model, key, code] = _Answers(self._seconds[route, model])
        answers.count += 1
        answers.seconds.observe(seconds)

    def streamed(self, model: str, first_s: float, rest_s: float, tokens: int) -> None:
        """A stream is over: the time to its first piece, the time from there, how many tokens came (0: unknown)."""
        self._first[model,].observe(first_s)
        if tokens > 1:
            self._each[model,].observe(rest_s / (tokens - 1))

    def used(self, model: str, prompt: int, completion: int, key: str = "", usd: float = 0.0) -> None:
        """Tokens read and written, and what they cost."""
        usage = self._usage.get((model, key))
        if usage is None:
            usage = self._usage[model, key] = _Usage()
        usage.prompt += prompt
        usage.completion += completion
        usage.usd += usd

    def failed(self, model: str, how: str) -> None:
        """An engine or upstream failed: connect, timeout, broken, or a status of 500 and up."""
        self._errors[model, how] += 1

    def queued(self, model: str, seconds: float) -> None:
        """A request has waited for its model: to start, or for a place."""
        self._queue[model,].observe(seconds)

    def limited(self, key: str, why: str) -> None:
        """A key's limit refused a request: `requests`, `tokens` or `insufficient_quota`, the error's type."""
        self._limited[key, why] += 1

    def fell_back(self, model: str, to: str) -> None:
        """A request for a hosted model was sent to another one in its place."""
        self._fallbacks[model, to] += 1

    def breaker(self, model: str, state: str) -> None:
        """An upstream's circuit breaker is `closed`, `open` or `half_open` from now on."""
        self._breakers[model] = state

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What the registry asks for: the figures as they are now."""
        answered = {labels: one.count for labels, one in self._answers.items()}
        yield _counter("parley_requests", "Requests answered.", ("route", "model", "key", "code"), answered)
        yield _histogram(
            "parley_request_seconds", "Seconds from a request to its answer's end.", ("route", "model"), self._seconds
        )
        yield _histogram(
            "parley_time_to_first_token_seconds", "Seconds from a request to the first piece of its stream.",
            ("model",), self._first,
        )  # fmt: skip
        yield _histogram(
            "parley_time_per_output_token_seconds", "Seconds for each token of a stream after its first.",
            ("model",), self._each,
        )  # fmt: skip
        used = self._usage.items()
        tokens = {(*labels, "prompt"): one.prompt for labels, one in used}
        tokens |= {(*labels, "completion"): one.completion for labels, one in used}
        yield _counter("parley_tokens", "Tokens read and written.", ("model", "key", "direction"), tokens)
        usd = {labels: one.usd for labels, one in used if one.usd}
        yield _counter("parley_usd", "US dollars that hosted models cost.", ("model", "key"), usd)
        in_flight = {(): self.in_flight.value}
        yield _gauge("parley_requests_in_flight", "Requests not answered yet.", (), in_flight)
        yield _gauge("parley_requests_waiting", "Requests that wait for a model.", ("model",), self.waiting.values)
        yield _histogram("parley_request_queue_seconds", "Seconds a request waited.", ("model",), self._queue)
        yield _counter("parley_rate_limited", "Requests over a key's limit.", ("key", "limit"), self._limited)
        yield _counter(
            "parley_upstream_errors", "Engines and upstreams that failed, by how.", ("model", "how"), self._errors
        )
        yield _counter("parley_fallbacks", "Requests sent to another model.", ("model", "to"), self._fallbacks)
        breakers = dict.fromkeys(self._breakers.items(), 1.0)
        yield _gauge("parley_breaker_state", "1 for the state of a breaker.", ("model", "state"), breakers)
        routes = self._current().routes.items()
        states = {(name, route.state.state): 1.0 for name, route in routes if name == route.spec.id}
        yield _gauge("parley_model_state", "1 for the state a model is in.", ("model", "state"), states)


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


def _histogram(name: str, what: str, labels: Labels, spreads: Mapping[Labels, Spread]) -> Metric:
    family = HistogramMetricFamily(name, what, labels=labels)
    for key, spread in spreads.items():
        buckets, total = spread.told()
        family.add_metric(key, buckets, total)
    return family
