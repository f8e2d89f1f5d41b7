"""Votes, judges' scores and feedback as OpenTelemetry events, as a collector receives them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.campaigns.ballots import Ballot, cast_vote
from evals.judges.pointwise import grade_models
from evals.judges.request import JudgeRequest
from models.chat.judge_prompt import pointwise_answer
from models.completions.feedback import Feedback, add_feedback
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, utcnow
from models.evaluation_events import EVENT, EvaluationResult, open_evaluation_events, send_results
from models.settings.settings import Settings
from tests.evals.campaigns.campaigns import battle, opened
from tests.evals.judges.test_pairwise import AFTER, BEFORE, GRADES, JUDGE, fill, run, says, script, sound
from tests.otlp_collector import collecting, values

pytestmark = pytest.mark.long


def sent_during(settings: Settings, work: Callable[[], Any]) -> list[dict[str, Any]]:
    """The attributes of all events that a collector receives while `work` runs."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    with collecting() as collector:
        close = open_evaluation_events(settings.model_copy(update={"otel_endpoint": collector.endpoint}))
        try:
            work()
        finally:
            close()
    records = [
        record
        for body in collector.bodies["/v1/logs"]
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    assert {record.event_name for record in records} == {EVENT}
    return [values(record.attributes) for record in records]


def results(events: list[dict[str, Any]]) -> list[tuple[str, str, str, float]]:
    names = ("name", "score.label", "score.value")
    read = [
        (event["gen_ai.response.model"], *(event[f"gen_ai.evaluation.{name}"] for name in names)) for event in events
    ]
    return sorted(read)


def test_a_vote_is_a_result_of_both_models_once(database: Database, settings: Settings, tmp_path: Path) -> None:
    opened(database, tmp_path, models=("model-one", "model-two"))
    first, second = battle(database), battle(database)

    def vote() -> None:
        for choice in ("left", "right"):  # the repeat changes nothing
            cast_vote(database, first.id, "ann", choice, Ballot(comment="no secret"))
        cast_vote(database, second.id, "ann", "both_bad")

    events = sent_during(settings, vote)
    sent = " ".join(str(value) for event in events for value in event.values())
    assert not {"ann", "secret", "order"} & set(sent.split())
    of_first = results([event for event in events if event["parley.battle"] == first.id])
    assert {(name, label, score) for _, name, label, score in of_first} == {
        ("blind_vote", "won", 1.0),
        ("blind_vote", "lost", 0.0),
    }
    of_second = [event for event in events if event["parley.battle"] == second.id]
    assert results(of_second) == [(model, "blind_vote", "both_bad", 0.5) for model in ("model-one", "model-two")]
    assert {event["parley.campaign"] for event in events} == {"acceptance"}
    assert {(event["gen_ai.response.model"], event["parley.opponent"]) for event in of_second} == {
        ("model-one", "model-two"),
        ("model-two", "model-one"),
    }


def test_a_judgment_is_a_result_of_each_model_shown(database: Database, settings: Settings) -> None:
    fill(database, 1)
    events = sent_during(settings, lambda: run(database, script(says(sound))))
    won = (AFTER, f"judge:{JUDGE}@{events[0]['gen_ai.evaluation.name'].rpartition('@')[2]}", "won", 1.0)
    assert results(events) == sorted([won, won, (BEFORE, won[1], "lost", 0.0), (BEFORE, won[1], "lost", 0.0)])
    assert {event["parley.shown"] for event in events} == {"12", "21"}

    graded = script(lambda asked: pointwise_answer("because", GRADES, 4 if "**" in asked else 2))
    request = JudgeRequest(JUDGE, (BEFORE, AFTER))
    events = sent_during(settings, lambda: asyncio.run(grade_models(database, graded, request)))
    assert results(events) == [(BEFORE, won[1], "2", 2.0), (AFTER, won[1], "4", 4.0)]


def test_feedback_is_a_result_of_the_model_that_answered(database: Database, settings: Settings) -> None:
    answer = {"choices": [{"message": {"content": "no secret"}}]}
    StoredCompletions(database).add([StoredCompletion("a", utcnow(), AFTER, "", "req_a", {}, answer, {})])

    def rate() -> None:
        given = [
            Feedback("a", "rating", True, correction="no secret", comment="no secret", source_id="ann"),
            Feedback("req_a", "rating", None),
            Feedback("elsewhere", "tone", "a secret " * 20, source_kind="model"),
        ]
        for feedback in given:
            add_feedback(database, feedback, idempotency_key=feedback.answer_id)
            add_feedback(database, feedback, idempotency_key=feedback.answer_id)  # sent once

    events = sent_during(settings, rate)
    assert "secret" not in str(events)
    assert "ann" not in str(events)
    of_after = {"gen_ai.response.model": AFTER, "gen_ai.response.id": "a", "parley.source": "human"}
    named = {"gen_ai.evaluation.name": "rating"}
    assert events == [
        {**named, **of_after, "gen_ai.evaluation.score.label": "true", "gen_ai.evaluation.score.value": 1.0},
        {**named, **of_after, "gen_ai.evaluation.score.label": "none"},
        {
            "gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.label": "text",
            "gen_ai.response.id": "elsewhere", "parley.source": "model",
        },
    ]  # fmt: skip


def test_an_unreachable_collector_or_a_faulty_result_stops_nothing(settings: Settings) -> None:
    close = open_evaluation_events(settings.model_copy(update={"otel_endpoint": "http://127.0.0.1:9"}))

    def faulty():
        yield EvaluationResult("blind_vote", "model-one", "won", None)
        raise ValueError

    send_results(faulty())
    close()
