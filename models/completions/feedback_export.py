"""Feedback as rows for other tools: Langfuse's scores, or OpenTelemetry events as the Collector reads them from a file.

Sources: api.reference.langfuse.com, "Create score"; opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-events (status
"Development"); the JSON lines of OTLP's file exporter. Nothing is left out: what a format has no field for is in its
metadata or attributes.
"""

from collections.abc import Iterator
from typing import Any, Literal

from models.completions.feedback import NO_VALUE, AnsweredBy, StoredFeedback, answered_by, list_feedback, result_of
from models.database import Database
from models.evaluation_events import EVENT

FeedbackFormat = Literal["langfuse", "otel"]
_BATCH = 500


def export_rows(database: Database, form: FeedbackFormat) -> Iterator[dict[str, Any]]:
    """One row or two for each piece of feedback, oldest first; two if it has a correction and a value in Langfuse."""
    after, has_more = None, True
    while has_more:
        page, has_more = list_feedback(database, after=after, limit=_BATCH)
        after = page[-1].id if page else None
        answers = answered_by(database, [stored.feedback.answer_id for stored in page])
        for stored in page:
            answer = answers.get(stored.feedback.answer_id, AnsweredBy(stored.feedback.answer_id))
            if form == "otel":
                yield _event(stored, answer)
            else:
                yield from _scores(stored, answer)


def _scores(stored: StoredFeedback, answer: AnsweredBy) -> Iterator[dict[str, Any]]:
    """Langfuse's scores of one piece of feedback: its value, and its correction, which Langfuse names `output`."""
    feedback = stored.feedback
    metadata = {
        "name": feedback.name, "sourceKind": feedback.source_kind, "sourceId": feedback.source_id,
        "keyId": stored.key_id, "model": answer.model, "requestId": answer.request_id,
    }  # fmt: skip
    score = {
        "traceId": answer.answer_id, "source": "API", "timestamp": stored.created.isoformat(),
        "metadata": {name: value for name, value in metadata.items() if value},
    }  # fmt: skip
    if feedback.comment is not None:
        score["comment"] = feedback.comment
    if feedback.value is not None or feedback.correction is None:
        yield {"id": stored.id, "name": feedback.name, **_value(feedback.value), **score}
    if feedback.correction is not None:
        corrected = {"value": feedback.correction, "dataType": "CORRECTION"}
        yield {"id": f"{stored.id}-correction", "name": "output", **corrected, **score}


def _value(value: bool | float | str | None) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"value": int(value), "dataType": "BOOLEAN"}
    if isinstance(value, int | float):
        return {"value": value, "dataType": "NUMERIC"}
    return {"value": NO_VALUE if value is None else value, "dataType": "CATEGORICAL"}


def _event(stored: StoredFeedback, answer: AnsweredBy) -> dict[str, Any]:
    """One line of OTLP's JSON: a log record `gen_ai.evaluation.result`."""
    feedback = stored.feedback
    attributes = result_of(feedback, answer).attributes()
    attributes |= {
        "gen_ai.evaluation.explanation": feedback.comment or "",
        "parley.feedback.id": stored.id,
        "parley.feedback.correction": feedback.correction or "",
        "parley.source_id": feedback.source_id,
        "parley.key": stored.key_id,
        "parley.request": answer.request_id,
    }
    record = {
        "timeUnixNano": str(int(stored.created.timestamp() * 1_000_000) * 1000),
        "eventName": EVENT,
        "attributes": [_attribute(name, value) for name, value in attributes.items() if value != ""],
    }
    resource = {"attributes": [_attribute("service.name", "parley")]}
    scope = {"scope": {"name": "parley"}, "logRecords": [record]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [scope]}]}


def _attribute(name: str, value: str | float) -> dict[str, Any]:
    return {"key": name, "value": {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}}
