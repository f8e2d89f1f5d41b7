"""The runner over a real socket: kept full, each answer requested once, killed and resumed, failures as rows."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest
from sqlalchemy import func, select

from evals.tables import AnswerRow
from evals.tasks.runner import Batch, Progress, Run, ask_all
from evals.tasks.task import TaskSample
from evals.tasks.task_rows import make_task
from models.chat.completer import GatewayCompleter
from models.chat.messages import Completion
from models.database import Database
from models.errors import Busy, Invalid, ParleyError, Unavailable, retry_delay
from tests.evals.upstream import AnsweringServer

PARAMETERS = {"temperature": 0.0, "max_tokens": 16}


def questions(*texts: str) -> tuple[TaskSample, ...]:
    return make_task("t", "t", [(text, {"input": text}) for text in texts]).samples


def run_of(database: Database, server: AnsweringServer, samples: tuple[TaskSample, ...], **options: object) -> Run:
    models = options.pop("models", ("one",))
    parameters, progress = options.pop("parameters", PARAMETERS), options.pop("progress", None)

    async def run() -> Run:
        completers = {model: GatewayCompleter(server.address, model, retries=0, many=True) for model in models}
        try:
            return await ask_all(
                database, completers.__getitem__, Batch(models, samples, parameters, **options), progress
            )
        finally:
            for completer in completers.values():
                await completer.close()

    return asyncio.run(run())


def stored(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(AnswerRow)) or 0


def test_answers_are_requested_once_per_model_prompt_and_parameters(any_database: Database) -> None:
    with AnsweringServer() as server:
        samples = questions("a", "b", "a", "c")  # a repeated question is sent once
        run = run_of(any_database, server, samples, models=("one", "two"))
        texts = [outcome.answer.text for outcome in run.outcomes["two"] if outcome.answer]
        assert texts == [f"two says: {text}" for text in ("a", "b", "a", "c")]
        assert (run.asked, run.cached, len(server.asked), stored(any_database)) == (6, 0, 6, 6)
        again = run_of(any_database, server, questions("c", "d"), models=("one",))
        assert (again.asked, again.cached) == (1, 1)
        assert again.outcomes["one"][0] == run.outcomes["one"][3]
        assert again.outcomes["one"][0].answer.completion_tokens == 3
        other = run_of(any_database, server, samples, models=("one",), parameters={**PARAMETERS, "max_tokens": 17})
        assert other.cached == 0


@pytest.mark.long
def test_concurrency_is_used_fully_and_never_exceeded(database: Database) -> None:
    latency, n, c = 0.1, 60, 12
    with AnsweringServer(latency_s=latency) as server:
        run_of(database, server, questions("warm"))  # the SDK's import and the first connection
        run = run_of(database, server, questions(*(f"q{i}" for i in range(n))), concurrency=c)
        assert server.most_at_once == c
        # bench.runner measures this on an idle machine; here other work may take the cores.
        assert ceil(n / c) * latency <= run.seconds < 0.5 * n * latency


@pytest.mark.long
def test_a_failed_sample_is_a_row_with_its_error_and_the_rest_continues(database: Database) -> None:
    with AnsweringServer() as server:
        samples = questions("good", "refuse this", "broken now", "drop me", "odd one", "busy once", "starting up")
        progress: list[Progress] = []
        run = run_of(database, server, samples, progress=progress.append)
        answered = [outcome.answer is not None for outcome in run.outcomes["one"]]
        assert answered == [True, False, False, False, False, True, True]
        assert all((outcome.answer is None) == (outcome.error is not None) for outcome in run.outcomes["one"])
        assert "cannot: refuse" in str(run.outcomes["one"][1].error)
        times = {text: sum(question == text for _, question in server.asked) for _, text in server.asked}
        # A request that was not processed is repeated; one that may have been processed and billed is not.
        assert times == {
            "good": 1, "refuse this": 1, "broken now": 1, "drop me": 1, "odd one": 1, "busy once": 2, "starting up": 2,
        }  # fmt: skip
        assert (progress[-1].done, progress[-1].total, progress[-1].failed) == (7, 7, 4)
        assert stored(database) == 3  # a failure is not stored: the next run repeats the request


def test_later_turns_follow_the_models_own_answers_and_are_cached(any_database: Database) -> None:
    rows = [{"turns": [f"hello {i % 2}", "and then?"]} for i in range(3)]  # the third sends the first one's question
    samples = make_task("t", "t", [(str(i), row) for i, row in enumerate(rows)]).samples
    with AnsweringServer() as server:
        progress: list[Progress] = []
        run = run_of(any_database, server, samples, models=("one", "two"), progress=progress.append)
        assert (run.asked, run.cached, len(server.asked)) == (8, 0, 8)
        assert (progress[0].total, progress[-1].done, progress[-1].failed) == (8, 8, 0)
        assert run.outcomes["one"][4:] == run.outcomes["one"][:2]
        assert all(outcome.answer is not None for outcome in run.outcomes["two"])
        second = [body["messages"] for body in server.bodies if body["messages"][-1]["content"] == "and then?"]
        assert len(second) == 4
        for messages in second:
            first, answer = messages[0]["content"], messages[1]["content"]
            assert [message["role"] for message in messages] == ["user", "assistant", "user"]
            assert answer in (f"one says: {first}", f"two says: {first}")
        again = run_of(any_database, server, samples, models=("one", "two"))
        assert (again.asked, again.cached, again.outcomes) == (0, 8, run.outcomes)


def test_a_run_that_was_killed_between_two_turns_continues_after_the_first(database: Database) -> None:
    first = make_task("t", "t", [("", {"turns": ["hello"]})]).samples
    both = make_task("t", "t", [("", {"turns": ["hello", "and then?"]})]).samples
    with AnsweringServer() as server:
        run_of(database, server, first)
        run = run_of(database, server, both)
        assert (run.asked, run.cached) == (1, 1)
        assert [question for _, question in server.asked] == ["hello", "and then?"]


def test_turns_after_a_failed_turn_are_failed_rows(database: Database) -> None:
    samples = make_task("t", "t", [("", {"turns": ["refuse", "two", "three"]}), ("", {"input": "good"})]).samples
    with AnsweringServer() as server:
        progress: list[Progress] = []
        run = run_of(database, server, samples, progress=progress.append)
        assert [question for _, question in server.asked] in (["refuse", "good"], ["good", "refuse"])
        errors = [outcome.error for outcome in run.outcomes["one"]]
        assert errors[0] == "cannot: refuse"
        assert errors[1] == errors[2] == "The previous turn has no answer: cannot: refuse"
        assert errors[3] is None
        assert (progress[-1].done, progress[-1].total, progress[-1].failed) == (4, 4, 3)


def test_a_server_that_is_not_there_is_soon_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.errors._FIRST_DELAY_S", 0.001)
    with AnsweringServer() as server:
        pass
    run = run_of(database, server, questions(*(f"q{i}" for i in range(200))), concurrency=8)
    assert all("cannot be reached" in str(outcome.error) for outcome in run.outcomes["one"])


def test_unexpected_errors_are_failed_rows(database: Database) -> None:
    async def complete(messages, **options) -> Completion:
        if messages[-1].content == "bad":
            raise TypeError("an odd\nanswer")
        return Completion(text="half a character: \ud800, and \x00")

    run = asyncio.run(ask_all(database, lambda model: complete, Batch(["one"], questions("bad", "good"), {})))
    assert run.outcomes["one"][0].error == "TypeError: an odd answer"
    assert run.outcomes["one"][1].answer is not None
    assert stored(database) == 1


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        (Busy("full"), True),
        (Busy("no money", code="insufficient_quota"), False),
        (Unavailable("starting", retry_after=2), True),
        (Unavailable("refused", code="not_connected"), True),
        (Unavailable("too late", code="timeout"), False),
        (Unavailable("cut", code="connection_lost"), False),
        (Invalid("nonsense"), False),
    ],
)
def test_only_requests_that_cost_nothing_are_retried(error: ParleyError, repeated: bool) -> None:
    wait = retry_delay(error, 0)
    assert (wait is not None) == repeated
    assert wait is None or 0 < wait <= 60
    assert retry_delay(Busy("full", retry_after=9_999), 0) == 60


_RUN = """
import asyncio, sys
from evals.tasks.runner import Batch, ask_all
from evals.tasks.task_rows import make_task
from models.chat.completer import GatewayCompleter
from models.database import open_database
from models.settings.settings import load_settings
async def main():
    complete = GatewayCompleter(sys.argv[1], "one", retries=0, many=True)
    samples = make_task("t", "t", [("", {"input": f"q{i}"}) for i in range(400)]).samples
    await ask_all(open_database(load_settings()), lambda model: complete, Batch(["one"], samples, {}, 4))
asyncio.run(main())
"""


@pytest.mark.long
def test_a_killed_run_continues_where_it_was(database: Database, home: Path) -> None:
    with AnsweringServer(latency_s=0.03) as server:
        environment = os.environ | {"PARLEY_HOME": str(home)}
        process = subprocess.Popen([sys.executable, "-c", _RUN, server.address], env=environment)
        try:
            _until(lambda: stored(database) >= 20)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        before, requests_before = stored(database), len(server.asked)
        assert 20 <= before < 400
        assert requests_before - before < 120  # at most what was in flight and what waited a moment to be written
        server.latency_s = 0.0
        run = run_of(database, server, questions(*(f"q{i}" for i in range(400))), parameters={})
        assert (run.cached, run.asked) == (before, 400 - before)
        assert len(server.asked) - requests_before == 400 - before


def _until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_upstreams_answers_are_json() -> None:
    assert json.loads(json.dumps(AnsweringServer().answer("/v1/embeddings", {"model": "e", "input": "a"})[1]))["data"]
