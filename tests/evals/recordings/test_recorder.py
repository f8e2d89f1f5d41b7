"""The recorder against a server on a real socket: each answer requested once, failures again, the cost limit, kills."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from evals.campaign_tables import RecordedAnswerRow
from evals.recordings.costs import Prices, with_prices
from evals.recordings.recording_request import plan_recording
from evals.recordings.recording_store import find_recording, is_intact
from evals.tasks.runner import Progress
from models.chat.completer import ServerAnswer
from models.database import Database
from models.errors import Conflict, Invalid, NotFound, Unavailable
from models.files.atomic import lock_file
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts
from tests.evals.upstream import AnsweringServer


def answers(database: Database) -> list[RecordedAnswerRow]:
    query = select(RecordedAnswerRow).order_by(RecordedAnswerRow.prompt_id, RecordedAnswerRow.sample)
    with database.read() as session:
        return list(session.scalars(query))


def test_every_prompt_is_recorded_once_with_logprobs_and_a_hash(any_database: Database, tmp_path: Path) -> None:
    wanted = request(stored_prompts(any_database, "one", "two", "three"))
    with AnsweringServer() as server:
        first = run(any_database, server.address, wanted, tmp_path)
        again = run(any_database, server.address, wanted, tmp_path)
        assert Counter(question for _, question in server.asked) == {"one": 3, "two": 3, "three": 3}
    assert (first.asked, first.failed, first.stopped, again.asked) == (9, 0, None, 0)
    assert first.recording.coverage == "3 of 3 prompts recorded, 3 samples"
    assert first.recording == again.recording
    assert first.recording.finished
    rows = answers(any_database)
    assert {row.text for row in rows} == {f"old says: {text}" for text in ("one", "two", "three")}
    assert all(row.logprobs and row.logprobs[0]["logprob"] == -0.1 for row in rows)
    assert is_intact(any_database, first.recording.id)
    with any_database.write() as session:
        session.execute(update(RecordedAnswerRow).where(RecordedAnswerRow.sample == 1).values(text="better"))
    assert not is_intact(any_database, first.recording.id)


@pytest.mark.long
def test_failed_samples_are_reported_and_requested_again(database: Database, tmp_path: Path) -> None:
    wanted = request(stored_prompts(database, "broken now", "busy first", "fine"), samples=2)
    with AnsweringServer() as server:
        first = run(database, server.address, wanted, tmp_path)
        assert (first.asked, first.failed, first.recording.failed) == (6, 2, 2)
        assert first.first_error
        assert "cannot: broken" in first.first_error
        assert first.recording.finished, "a prompt that always fails does not make the rest useless"
        again = run(database, server.address, wanted, tmp_path)
        requests = Counter(question for _, question in server.asked)
    assert (again.asked, again.failed) == (2, 2)
    assert requests["fine"] == 2
    assert requests["broken now"] == 4
    healed = run(database, ScriptedServer(), wanted, tmp_path)
    assert (healed.asked, healed.failed, healed.recording.complete) == (2, 0, 3)
    assert is_intact(database, healed.recording.id)
    assert healed.recording.sha256 != first.recording.sha256


def test_the_cost_limit_is_never_exceeded_and_can_be_raised(database: Database, tmp_path: Path) -> None:
    priced = with_prices(OLD, Prices(100.0, 1000.0))  # 10 tokens in and 16 out: $0.017 a request
    chosen = stored_prompts(database, *(f"question {i}" for i in range(10)))
    server = ScriptedServer()
    first = run(database, server, request(chosen, priced, samples=2, max_usd=0.1), tmp_path)
    assert first.stopped == "the cost limit of $0.1 is reached"
    assert first.recording.usd == pytest.approx(0.017 * first.asked)
    assert 0.08 < (first.recording.usd or 0.0) <= 0.1
    assert first.recording.finished is None
    again = run(database, server, request(chosen, priced, samples=2, max_usd=0.1), tmp_path)
    assert again.asked == 0
    done = run(database, server, request(chosen, priced, samples=2, max_usd=1.0), tmp_path)
    assert (done.stopped, done.recording.complete, len(server.bodies)) == (None, 10, 20)
    assert done.recording.usd == pytest.approx(0.34)


def test_the_plan_says_what_the_rest_costs(database: Database, tmp_path: Path) -> None:
    priced = with_prices(OLD, Prices(0.0, 1000.0))
    chosen = stored_prompts(database, "one", "two")
    plan = plan_recording(database, request(chosen, priced))
    assert (plan.stored, plan.left.requests, plan.left.usd) == (0, 6, pytest.approx(6 * 16 * 0.001))
    assert "at most $0.0960" in plan.left.text
    run(database, ScriptedServer(), request(chosen, priced, max_usd=0.05), tmp_path)
    rest = plan_recording(database, request(chosen, priced))
    assert (rest.stored, rest.left.requests) == (3, 3)
    unknown = plan_recording(database, request(chosen))
    assert unknown.left.usd is None
    with pytest.raises(Invalid, match="A cost limit needs the prices of old"):
        request(chosen, max_usd=1.0)


def test_an_interrupted_run_continues(database: Database, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.done == 5:
            raise Interrupted

    wanted = request(stored_prompts(database, *(f"question {i}" for i in range(6))), samples=2, concurrency=1)
    server = ScriptedServer()
    with pytest.raises(Interrupted):
        run(database, server, wanted, tmp_path, interrupt)
    assert len(answers(database)) == 5
    done = run(database, server, wanted, tmp_path)
    assert (done.asked, done.recording.complete, len(server.bodies)) == (7, 6, 12)


def test_an_answer_of_a_fallback_is_not_recorded(database: Database, tmp_path: Path) -> None:
    done = run(database, ScriptedServer("other"), request(stored_prompts(database, "one"), samples=1), tmp_path)
    (row,) = answers(database)
    assert row.text is None
    assert "fallback other answered instead" in (row.error or "")
    assert done.recording.finished is None


def test_a_server_without_logprobs_gets_requests_without_them(database: Database, tmp_path: Path) -> None:
    class Plain(ScriptedServer):
        async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
            answer = await super().send(path, body)
            if "logprobs" in body:
                raise Invalid("logprobs are not supported")
            return answer

    server = Plain()
    wanted = request(stored_prompts(database, "one", "two"), parameters={"max_tokens": 4, "seed": 7}, concurrency=1)
    done = run(database, server, wanted, tmp_path)
    assert (done.failed, done.recording.complete) == (0, 2)
    assert len(server.bodies) == 7, "the first request is repeated, the others are not"
    assert [body["seed"] for body in server.bodies] == [7, 7, 7, 8, 8, 9, 9]


def test_a_model_that_is_down_or_unknown_stops_the_run(database: Database, tmp_path: Path) -> None:
    class Down(ScriptedServer):
        error: Exception = Unavailable("it broke", code="connection_lost")

        async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer:
            await super().send(path, body)
            raise self.error

    chosen = stored_prompts(database, *(f"question {i}" for i in range(40)))
    server = Down()
    done = run(database, server, request(chosen), tmp_path)
    assert "20 requests in a row failed: it broke" in (done.stopped or "")
    assert len(server.bodies) < 40
    server.error = NotFound("There is no model 'old'.")
    with pytest.raises(NotFound):
        run(database, server, request(chosen), tmp_path)


def test_a_recording_has_one_run_at_a_time(database: Database, tmp_path: Path) -> None:
    wanted = request(stored_prompts(database, "one"))
    done = run(database, ScriptedServer(), wanted, tmp_path)
    with (
        lock_file(tmp_path / "locks" / f"{done.recording.id}.lock", "held here"),
        pytest.raises(Conflict, match="Another run is recording old"),
    ):
        run(database, ScriptedServer(), wanted, tmp_path)
    assert find_recording(database, done.recording.id[-8:]).id == done.recording.id
