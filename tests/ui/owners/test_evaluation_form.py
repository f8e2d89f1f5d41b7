"""The form of the Evaluations tab without a browser: mistakes are reported, everything else becomes a watched job."""

from dataclasses import replace
from typing import Any

import pytest

from evals.votes.prompts import add_prompts
from models.database import Database
from models.files.stored_files import Files
from models.jobs.jobs import claim, finish, list_jobs
from models.settings.settings import Settings
from tests.ui.conftest import NAMES, filled, register_models, stand_in
from ui.backend.context import PageContext
from ui.owners.evaluations.form import EvaluationStarter, FormView, progress_html

ROWS = b'{"input": "one?", "expected": "yes"}\n{"turns": ["two?", "and?"]}\n'


@pytest.fixture
def form(settings: Settings, database: Database) -> EvaluationStarter:
    register_models(database, "http://127.0.0.1:9/v1")
    return EvaluationStarter(PageContext(settings, database), stand_in(FormView))


def store(form: EvaluationStarter, content: bytes = ROWS, name: str = "faq.jsonl") -> str:
    context = form._context
    return Files(context.settings, context.database).store(name, content, "evals").id


async def begin(form: EvaluationStarter, task: str | None, **changes: Any) -> dict[Any, Any]:
    values: dict[str, Any] = {
        "models": list(NAMES[:2]), "scorers": ["exact", "length:2-9"], "judge": "", "rubric": "support",
        "limit": "all", "tokens": "512", "skip": False,
    }  # fmt: skip
    return await form.begin(filled(form._view, task=task, **values | changes))


@pytest.mark.long
async def test_tasks_and_models_are_listed_and_the_newest_file_chosen(
    form: EvaluationStarter, database: Database
) -> None:
    view = form._view
    first = store(form)
    add_prompts(database, [{"prompt": "Why?"}, {"prompt": "How?", "held_out": True}], "test")
    seen = await form.refresh(None, None, None)
    assert [value for _, value in seen[view.task]["choices"]] == [first, "prompts", "prompts:held-out"]
    assert seen[view.task]["value"] == first
    assert len(seen[view.models]["value"]) == 2
    assert seen[view.judge]["value"] == ""
    second = store(form, name="other.csv")
    assert (await form.refresh_after_upload(NAMES[:1], ""))[view.task]["value"] == second
    assert (await form.refresh(first, NAMES[:1], ""))[view.task]["value"] == first


async def test_the_suggested_scorers_have_something_to_score(form: EvaluationStarter, database: Database) -> None:
    view = form._view
    add_prompts(database, [{"prompt": "Why?", "topics": [["because"]]}], "test")
    seen = await form.refresh("prompts", None, None, ["length:5-60"])
    assert seen[view.scorers] == ["topics", "length:5-60"]
    with_answers = store(form)
    assert (await form.suggest_scorers(with_answers, seen[view.scorers]))[view.scorers] == ["includes", "length:5-60"]
    assert await form.suggest_scorers(with_answers, ["bleu"]) == {}  # the owner's own choice
    assert await form.suggest_scorers(store(form, b"\x89PNG\xff"), []) == {}  # reported at the start


@pytest.mark.long
async def test_a_run_is_enqueued_watched_and_becomes_an_evaluation(form: EvaluationStarter, database: Database) -> None:
    view = form._view
    began = await begin(form, store(form), judge=NAMES[2], limit="1", tokens="all", scorers=["regex:^a,b", "exact"])
    (job,) = list_jobs(database, "evaluate")
    assert (job.params["name"], job.params["models"]) == ("faq", list(NAMES[:2]))
    assert job.params["scorers"] == ["regex:^a,b", "exact", f"judge:{NAMES[2]}@support"]
    assert (job.params["limit"], job.params["max_tokens"]) == (1, None)
    assert "waiting for the worker" in began[view.line]
    assert began[view.timer]["active"] is True
    assert await form.result(job.id) is None
    assert job.id == (await form.refresh(None, None, None))[view.run]  # another browser sees it too
    claim(database, "worker")
    finish(database, job.id, "worker", result={"evaluation": "01X"})
    assert await form.result(job.id) == "01X"
    assert (await form.watch(job.id))[view.timer]["active"] is False


@pytest.mark.long
async def test_a_run_that_ended_unseen_leaves_the_form_ready(form: EvaluationStarter, database: Database) -> None:
    """The tab is opened again after a run ended: its bar is gone, and another run can be started."""
    view = form._view
    await begin(form, store(form))
    (job,) = list_jobs(database, "evaluate")
    claim(database, "worker")
    finish(database, job.id, "worker", result={"evaluation": "01X"})
    seen = await form.refresh(None, None, None)
    assert seen[view.start]["interactive"] is True
    assert seen[view.stop]["visible"] is False
    assert seen[view.timer]["active"] is False


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "at least one model"),
        ({"scorers": []}, "one scorer"),
        ({"scorers": ["nonsense"]}, "no scorer"),
        ({"scorers": ["/etc/evil.py:run"]}, "parley eval run"),
        ({"scorers": ["schema:/etc/passwd"]}, "parley eval run"),
        ({"scorers": ["judge:m@/etc/rubric.md"]}, "parley eval run"),
        ({"limit": "0"}, "whole number"),
        ({"tokens": "many"}, "whole number"),
    ],
)
async def test_mistakes_are_reported_and_not_enqueued(
    form: EvaluationStarter, database: Database, changes: dict[str, Any], message: str
) -> None:
    after = await begin(form, store(form), **changes)
    assert message in after[form._view.line]
    assert list_jobs(database, "evaluate") == []


async def test_a_file_that_is_not_a_task_is_reported_with_its_line(form: EvaluationStarter, database: Database) -> None:
    line = form._view.line
    assert "Drop a task" in (await begin(form, None))[line]
    bad = store(form, ROWS + b'{"expected": "nothing"}\n')
    assert "Line 3: it has no question" in (await begin(form, bad))[line]
    assert "has no samples" in (await begin(form, store(form, b"{}\n")))[line]
    await begin(form, bad, skip=True)
    assert list_jobs(database, "evaluate")[0].params["skip_bad"] is True


@pytest.mark.long
async def test_a_run_is_cancelled_and_its_messages_are_escaped(form: EvaluationStarter, database: Database) -> None:
    await begin(form, store(form))
    (job,) = list_jobs(database, "evaluate")
    assert "was cancelled" in (await form.stop(job.id))[form._view.line]
    assert "&lt;b&gt;" in progress_html(replace(job, status="failed", error="<b>"))
    assert "&lt;b&gt;" in progress_html(replace(job, status="running", message="<b>", progress=0.5))
