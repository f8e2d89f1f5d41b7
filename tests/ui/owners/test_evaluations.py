"""The Evaluations tab without a browser: empty, the newest report, a chosen one, an error as a line."""

import asyncio
from html import unescape

import gradio as gr
import pytest

from evals.scorers.catalog import named_scorer
from evals.tasks.evaluations import TaskRun, run_task
from evals.tasks.task_rows import make_task
from models.database import Database
from models.settings.settings import Settings
from tests.evals.scripted import Scripted
from ui.backend.context import PageContext
from ui.owners.evaluations.tab import EvaluationsTab, EvaluationsView

EVIL = "</iframe><script>alert('x')</script>"


@pytest.fixture
def tab(settings: Settings, database: Database) -> EvaluationsTab:
    return EvaluationsTab(PageContext(settings, database), EvaluationsView(gr.Dropdown(), gr.HTML()))


async def evaluated(database: Database, name: str) -> str:
    task = make_task(name, "t", [("", {"input": f"{name} {EVIL} {i}", "expected": "yes"}) for i in range(3)])
    answers = Scripted({"a": lambda q: "yes", "b": lambda q: EVIL})
    return (await run_task(database, answers, TaskRun(task, ["a", "b"], [named_scorer("exact")]))).id


@pytest.mark.long
async def test_the_newest_report_is_shown_until_another_is_chosen(tab: EvaluationsTab, database: Database) -> None:
    view = tab._view
    empty = await tab.refresh(None)
    assert "parley eval run" in empty[view.report]
    first = await evaluated(database, "first")
    await asyncio.sleep(0.002)  # ids are in the order of their milliseconds
    second = await evaluated(database, "second")
    newest = await tab.refresh(None)
    assert newest[view.which]["value"] == second
    assert [value for _, value in newest[view.which]["choices"]] == [second, first]
    assert "second" in newest[view.report]
    kept = await tab.refresh(first)
    assert kept[view.which]["value"] == first


@pytest.mark.long
async def test_model_output_is_in_a_frame_without_scripts(tab: EvaluationsTab, database: Database) -> None:
    shown = (await tab.show(await evaluated(database, "evil")))[tab._view.report]
    assert "sandbox='allow-same-origin'" in shown
    assert "allow-scripts" not in shown
    assert shown.count("<") == 2  # the frame opens and closes: everything else is its attribute's text
    inside = unescape(shown.partition("srcdoc='")[2])
    assert "default-src" in inside
    assert "<script" not in inside
    assert "Regressions" in inside


async def test_an_error_is_a_line(tab: EvaluationsTab) -> None:
    assert 'role="status"' in (await tab.show("nothing"))[tab._view.report]
