"""OpenTelemetry: a span and up to three histogram values for each model request.

Off unless an endpoint is set. The gateway's event loop only appends to a queue; a separate thread does the rest.
Prompts and answers are never sent. Source: opentelemetry.io/docs/specs/semconv/gen-ai, status "Development".
"""

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from models.evaluation_events import missing_packages
from models.settings.settings import Settings
from models.spec import ModelSpec

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}
# The boundaries that the conventions recommend.
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_LATEST = "gen_ai_latest_experimental"  # among the values of OTEL_SEMCONV_STABILITY_OPT_IN
_MAX_QUEUED = 10_000
_log = logging.getLogger("parley.gateway")


class FinishedRequest(NamedTuple):
    """What telemetry reports of a request to a model. `ended`: Unix time in seconds."""

    route: str
    model: str
    spec: ModelSpec | None
    status: int
    ended: float
    seconds: float
    ttft_s: float | None
    prompt_tokens: int
    completion_tokens: int
    fault: str
    traceparent: bytes | None


class Telemetry:
    """Sends spans and metrics to one OTLP endpoint over HTTP. `start` and `stop` run with the gateway."""

    def __init__(self, endpoint: str, opt_in: str = "") -> None:
        self._endpoint = endpoint.rstrip("/")
        names = {name.strip() for name in opt_in.split(",")}
        self._provider_name = "gen_ai.provider.name" if _LATEST in names else "gen_ai.system"
        self._queue: queue.Queue[FinishedRequest | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._traces: TracerProvider | None = None
        self._metrics: MeterProvider | None = None

    def start(self) -> None:
        """Starts the thread.

        Raises:
            Invalid: OpenTelemetry's packages are not installed.
        """
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise missing_packages() from error
        resource = Resource.create({"service.name": "parley"})
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{self._endpoint}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{self._endpoint}/v1/metrics"))
        self._metrics = MeterProvider([reader], resource=resource)
        self._thread.start()

    def record(self, request: FinishedRequest) -> None:
        """Queues a finished request without waiting. If the queue is full, the request is dropped."""
        try:
            self._queue.put_nowait(request)
        except queue.Full:
            _log.debug("the telemetry queue is full: a request is not reported")

    def stop(self) -> None:
        """Sends everything recorded so far."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join(10)
        if self._traces is not None and self._metrics is not None:
            self._traces.shutdown()
            self._metrics.shutdown()

    def _run(self) -> None:
        assert self._traces is not None
        assert self._metrics is not None
        tracer, meter = self._traces.get_tracer("parley"), self._metrics.get_meter("parley")

        def histogram(name: str, description: str, bounds: tuple[float, ...]) -> Any:
            return meter.create_histogram(
                f"gen_ai.server.{name}", "s", description, explicit_bucket_boundaries_advisory=list(bounds)
            )

        duration = histogram("request.duration", "Duration of a request.", _DURATION)
        first_token = histogram("time_to_first_token", "Time to the first token of a stream.", _FIRST_TOKEN)
        per_token = histogram("time_per_output_token", "Time per token after the first.", _PER_TOKEN)
        while (request := self._queue.get()) is not None:
            try:
                attributes = self._attributes(request)
                duration.record(request.seconds, attributes)
                if request.ttft_s is not None:
                    plain = {name: value for name, value in attributes.items() if name != "error.type"}
                    first_token.record(request.ttft_s, plain)
                    if request.completion_tokens > 1:
                        rest = request.seconds - request.ttft_s
                        per_token.record(rest / (request.completion_tokens - 1), plain)
                self._span(tracer, request, attributes)
            except Exception:
                # The thread must not end: the gateway would silently lose its telemetry.
                _log.exception("a request cannot be reported to OpenTelemetry")

    def _attributes(self, request: FinishedRequest) -> dict[str, str]:
        attributes = {
            "gen_ai.operation.name": _OPERATIONS.get(request.route, "chat"),
            self._provider_name: _provider(request.spec),
            "gen_ai.request.model": request.model,
            "gen_ai.response.model": request.model,
        }
        if request.fault:
            attributes["error.type"] = request.fault
        elif request.status >= 400:
            attributes["error.type"] = str(request.status)
        return attributes

    def _span(self, tracer: Any, request: FinishedRequest, attributes: dict[str, str]) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": request.traceparent.decode("latin-1")} if request.traceparent else {}
        span = tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {request.model}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=int((request.ended - request.seconds) * 1e9),
            attributes=attributes
            | {
                "http.response.status_code": request.status,
                "gen_ai.usage.input_tokens": request.prompt_tokens,
                "gen_ai.usage.output_tokens": request.completion_tokens,
            },
        )
        if "error.type" in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(int(request.ended * 1e9))


def open_telemetry(settings: Settings) -> Telemetry | None:
    """The gateway's telemetry; None without an endpoint."""
    if not settings.otel_endpoint:
        return None
    return Telemetry(settings.otel_endpoint, settings.otel_semconv_opt_in)


def _provider(spec: ModelSpec | None) -> str:
    """The provider's name in the conventions: `parley` for a local model, `openai`, or the upstream's host."""
    if spec is None or spec.upstream is None:
        return "parley"
    host = urlsplit(spec.upstream.base_url).hostname or ""
    return "openai" if host == "api.openai.com" else host
