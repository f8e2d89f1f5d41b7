"""Votes, judges' scores and feedback as OpenTelemetry events named `gen_ai.evaluation.result`, one per model.

Off unless the gateway, the page or the worker opens a sink, which they do if an endpoint is set. Questions, answers,
corrections, comments, reasons and raters are never sent.
Source: opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events, status "Development".
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from models.errors import Invalid
from models.settings.settings import Settings

Sink = Callable[[Mapping[str, str | float]], None]
"""Receives the attributes of one event without waiting."""

EVENT = "gen_ai.evaluation.result"
_TIMEOUT_S = 2  # including retries: an unreachable collector must not delay a stop
_log = logging.getLogger("parley.telemetry")
_sinks: list[Sink] = []


@dataclass(frozen=True)
class EvaluationResult:
    """One model's result. `label`: such as `won`. `score`: such as 1.0. `details`: Parley's own attributes.

    `model` is empty where it is not known; `answer_id` is the id of the only answer that the result is about.
    """

    evaluation: str
    model: str
    label: str
    score: float | None
    details: Mapping[str, str] = field(default_factory=dict)
    answer_id: str = ""

    def attributes(self) -> dict[str, str | float]:
        """The event's attributes, without the score's value if there is none."""
        attributes: dict[str, str | float] = {
            "gen_ai.evaluation.name": self.evaluation,
            "gen_ai.evaluation.score.label": self.label,
        }
        if self.model:
            attributes["gen_ai.response.model"] = self.model
        if self.answer_id:
            attributes["gen_ai.response.id"] = self.answer_id
        if self.score is not None:
            attributes["gen_ai.evaluation.score.value"] = self.score
        return attributes | {f"parley.{name}": value for name, value in self.details.items()}


def send_results(results: Iterable[EvaluationResult]) -> None:
    """Sends stored results to this process's sinks. Without a sink, `results` is not read."""
    if not _sinks:
        return
    try:
        for result in results:
            for sink in _sinks:
                sink(result.attributes())
    except Exception:
        # The vote or judgment is stored already: telemetry must not make the request fail.
        _log.exception("an evaluation result cannot be sent to OpenTelemetry")


def missing_packages() -> Invalid:
    """The error if an endpoint is set but OpenTelemetry's packages are not installed."""
    return Invalid(
        "An OpenTelemetry endpoint is set, but opentelemetry-sdk and opentelemetry-exporter-otlp are not "
        "installed: install them, or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        param="otel_endpoint",
    )


def open_evaluation_events(settings: Settings) -> Callable[[], None]:
    """Opens this process's sink if an endpoint is set; returns a function that flushes and closes it.

    Raises:
        Invalid: OpenTelemetry's packages are not installed.
    """
    if not settings.otel_endpoint:
        return lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise missing_packages() from error
    provider = LoggerProvider(Resource.create({"service.name": "parley"}))
    exporter = OTLPLogExporter(f"{settings.otel_endpoint.rstrip('/')}/v1/logs", timeout=_TIMEOUT_S)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("parley")

    def sink(attributes: Mapping[str, str | float]) -> None:
        logger.emit(event_name=EVENT, attributes=attributes)

    def close() -> None:
        _sinks.remove(sink)
        provider.shutdown()

    _sinks.append(sink)
    return close
