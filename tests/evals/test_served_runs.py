"""Evaluations through a real gateway on a real socket: answers, embeddings and grades of hosted models."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.judges.pairwise import judge_models
from evals.judges.request import JudgeRequest
from evals.judges.rubric import find_rubric
from evals.served_runs import EvaluationProgress, evaluate_served, judge_served
from evals.tasks.evaluations import TaskRun, load_evaluation
from evals.tasks.summaries import overview
from evals.tasks.task_rows import make_task
from evals.votes.prompts import add_prompts
from models.database import Database
from models.settings.settings import Settings
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import Serving, serving

PARAMETERS = {"max_tokens": 16}
TASK = make_task(
    "faq", "faq.jsonl",
    [(str(i), {"input": f"say a{'a' * i}", "expected": f"before says: say a{'a' * i}"}) for i in range(6)],
)  # fmt: skip


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Iterator[tuple[Serving, AnsweringServer]]:
    """A gateway before a fake hosted upstream with two models, a judge and an embedding model."""
    with AnsweringServer() as upstream, serving(settings, database) as running:
        running.hosted("before", "after", "our-judge", "embedder", base_url=upstream.address)
        yield running, upstream


@pytest.mark.long
def test_embeddings_and_grades_come_through_the_gateway(
    gateway: tuple[Serving, AnsweringServer], database: Database
) -> None:
    running, upstream = gateway
    settings = running.settings.model_copy(update={"port": running.port})
    scorers = ["embedding:embedder", "judge:our-judge@general", "exact"]
    made = evaluate_served(settings, database, TaskRun(TASK, ["before", "after"], parameters=PARAMETERS), scorers)
    summary = overview(load_evaluation(database, made.id))
    assert summary.scorer_errors == ()
    same, other = (summary.of(model, "embedding:embedder") for model in ("before", "after"))
    assert (same.n, same.mean) == (6, pytest.approx(1.0))
    assert (other.n, other.mean) == (6, pytest.approx(0.999, abs=0.0015))
    assert 0.99 < (other.mean or 0.0) < 1.0
    judge = next(row.scorer for row in summary.scores if row.scorer.startswith("judge:our-judge@general#"))
    assert summary.of("after", judge).mean == pytest.approx(4.0)
    assert summary.of("before", "exact").mean == 1.0
    assert {model for model, _ in upstream.asked} == {"before", "after", "our-judge"}


@pytest.mark.long
def test_two_judges_share_one_progress(gateway: tuple[Serving, AnsweringServer], database: Database) -> None:
    running, _ = gateway
    settings = running.settings.model_copy(update={"port": running.port})
    shares: list[float] = []
    scorers = ["judge:our-judge@general", "judge:our-judge@support"]
    progress = EvaluationProgress(scoring=lambda share, _: shares.append(share))
    run = TaskRun(TASK, ["before", "after"], parameters=PARAMETERS)
    evaluate_served(settings, database, run, scorers, progress)
    assert shares == sorted(shares)
    assert 0.5 in shares
    assert shares.count(1.0) == 1


@pytest.mark.long
def test_a_missing_embedding_model_leaves_other_scores_intact(
    gateway: tuple[Serving, AnsweringServer], database: Database
) -> None:
    running, _ = gateway
    settings = running.settings.model_copy(update={"port": running.port})
    made = evaluate_served(
        settings, database, TaskRun(TASK, ["before"], parameters=PARAMETERS), ["embedding:nobody", "exact"]
    )
    summary = overview(load_evaluation(database, made.id))
    ((name, error, count),) = summary.scorer_errors
    assert (name, count) == ("embedding:nobody", 6)
    assert "nobody" in error
    assert summary.of("before", "exact").n == 6


@pytest.mark.long
def test_a_judge_waits_for_a_starting_engine_and_reports_it(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    add_prompts(database, [{"prompt": f"question {number}"} for number in range(3)], "test")
    impatient = settings.model_copy(update={"queue_wait_s": 0.2})
    lines: list[tuple[float, str]] = []
    with AnsweringServer() as upstream, serving(impatient, database) as gateway:
        gateway.hosted("before", "our-judge", base_url=upstream.address)
        gateway.engine("after", tmp_path / "weights", None)
        # The queue times out several times before the engine is ready.
        ready = threading.Timer(1.5, gateway.publish, ("after", upstream.address.removesuffix("/v1")))
        ready.start()
        request = JudgeRequest("our-judge", ("before", "after"), rubric=find_rubric("support", database))
        port = impatient.model_copy(update={"port": gateway.port})
        report = judge_served(port, database, judge_models, request, lambda *progress: lines.append(progress))
        ready.join()
    assert (report.judged, report.failed) == (3, 0)
    assert lines[0][0] == 0.0
    assert lines[0][1].startswith("answering: 0 of ")
    assert (0.0, "waiting for after: its engine is starting") in lines
    assert lines[-1][0] == 1.0
