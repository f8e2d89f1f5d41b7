"""The Judge tab without a browser: runs are enqueued, watched and cancelled; a toy judge is labelled."""

from dataclasses import replace
from typing import Any

import pytest

from evals.judges.human_agreement import LabelledPair, agreement_by_category
from evals.judges.report import Canary, JudgedPair, JudgedRun, JudgeReport, build_report
from evals.scorers.catalog import named_scorer
from evals.tasks.evaluations import TaskRun, run_task
from evals.tasks.task_rows import make_task
from models.database import Database
from models.jobs.jobs import claim, finish, list_jobs
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from tests.evals.scripted import Scripted
from tests.ui.conftest import NAMES, filled, register_models, stand_in
from ui.backend.context import PageContext
from ui.owners.judge.html import report_html, report_plot, report_table
from ui.owners.judge.tab import JudgeTab, JudgeView, describe_judging

JUDGE = "emu-judge"


@pytest.fixture
def judge(settings: Settings, database: Database) -> JudgeTab:
    register_models(database, "http://127.0.0.1:9/v1")
    upstream = Upstream(base_url="http://127.0.0.1:9/v1", model=JUDGE)
    Registry(database).register(ModelSpec(id=JUDGE, kind="hosted", upstream=upstream, judge=True, toy=True))
    return JudgeTab(PageContext(settings, database), stand_in(JudgeView))


async def begin(judge: JudgeTab, *models: Any, rubric: str = "support", questions: str | None = None) -> dict[Any, Any]:
    """Starts a run: the judge, then its two models."""
    form = dict(zip(("judge", "model_a", "model_b"), models, strict=True))
    return await judge.begin(filled(judge._view, **form, prompts=20, rubric=rubric, questions=questions))


def report(**changes: Any) -> JudgeReport:
    row = JudgedPair(
        pair_id="1",
        prompt_id="1",
        question="<script>alert(1)</script>",
        category=None,
        answer_a="x",
        answer_b="y",
        a_first="b",
        b_first="b",
        outcome="b",
        consistent=True,
        scores_a={"tone": 2.0},
        scores_b={"tone": 4.0},
        reasons="<b>B</b> is kinder",
        people=None,
    )
    given: dict[str, Any] = {"rows": [row], "canaries": [Canary("empty", 4, 4)], "unparsed": 1, "failed": 0}
    models = (NAMES[0], NAMES[1])
    return build_report(JudgedRun(judge=JUDGE, models=models, rubric="r", rubric_hash="h", **(given | changes)))


@pytest.mark.long
async def test_a_run_from_start_to_report(judge: JudgeTab, database: Database):
    view = judge._view
    began = await begin(judge, JUDGE, NAMES[0], NAMES[1])
    (job,) = list_jobs(database, "judge")
    assert job.params == {"judge": JUDGE, "model_a": NAMES[0], "model_b": NAMES[1], "prompts": 20, "rubric": "support"}
    assert "waiting for the worker" in began[view.line]
    assert began[view.timer]["active"] is True
    assert began[view.result]["visible"] is False
    claim(database, "worker")
    finish(database, job.id, "worker", result=report().to_json())
    done = await judge.watch(job.id)
    assert done[view.timer]["active"] is False
    assert done[view.result]["visible"] is True
    assert NAMES[1] in done[view.report]


@pytest.mark.long
async def test_an_evaluations_answers_can_be_judged(judge: JudgeTab, database: Database):
    task = make_task("talk", "t", [("", {"turns": ["one", "two"]})])
    players = Scripted({name: lambda question: f"about {question}" for name in NAMES[:2]})
    made = await run_task(database, players, TaskRun(task, NAMES[:2], [named_scorer("words")]))
    seen = await judge.refresh(JUDGE, *NAMES[:2], None)
    assert [value for _, value in seen[judge._view.questions]["choices"]] == ["", made.id]
    taken = await judge.choose_questions(JUDGE, NAMES[2], NAMES[0], made.id)
    assert (taken[judge._view.model_a], taken[judge._view.model_b]) == NAMES[:2]
    # An evaluation is judged whole: how many prompts is a question about the stored ones.
    assert taken[judge._view.prompts]["interactive"] is False
    assert (await judge.choose_questions(JUDGE, *NAMES[:2], ""))[judge._view.prompts]["interactive"] is True
    kept = await judge.choose_questions(JUDGE, NAMES[1], NAMES[0], made.id)
    assert (kept[judge._view.model_a], kept[judge._view.model_b]) == (NAMES[1], NAMES[0])
    await begin(judge, JUDGE, *NAMES[:2], rubric="general", questions=made.id)
    (job,) = list_jobs(database, "judge")
    assert job.params == {
        "judge": JUDGE, "model_a": NAMES[0], "model_b": NAMES[1], "rubric": "general", "evaluation": made.id,
    }  # fmt: skip


def test_win_rates_are_shown_by_category_and_turn():
    rows = [replace(report().rows[0], category=name, turn=turn) for name in "xy" for turn in (1, 2)]
    rows.append(replace(rows[0], outcome=None, null="no answer from <b>a</b>"))
    shown = report_table(report(rows=rows))
    for name in ("everything", ">x<", ">y<", "turn 2"):
        assert name in shown
    assert "no answer from &lt;b&gt;a&lt;/b&gt;" in shown


@pytest.mark.long
async def test_a_run_is_cancelled(judge: JudgeTab, database: Database):
    await begin(judge, JUDGE, NAMES[0], NAMES[1])
    (job,) = list_jobs(database, "judge")
    after = await judge.stop(job.id)
    assert list_jobs(database, "judge")[0].status == "cancelled"
    assert "cancelled" in after[judge._view.line]
    assert after[judge._view.start]["interactive"] is True


@pytest.mark.long
async def test_a_failed_run_says_why(judge: JudgeTab, database: Database):
    await begin(judge, JUDGE, NAMES[0], NAMES[1])
    (job,) = list_jobs(database, "judge")
    claim(database, "worker")
    finish(database, job.id, "worker", error="The <engine> is gone.")
    after = await judge.watch(job.id)
    assert "The &lt;engine&gt; is gone." in after[judge._view.line]


@pytest.mark.long
async def test_a_number_of_prompts_out_of_range_is_refused(judge: JudgeTab, database: Database):
    form = {"judge": JUDGE, "model_a": NAMES[0], "model_b": NAMES[1], "rubric": "support", "questions": None}
    after = await judge.begin(filled(judge._view, **form, prompts=0))
    assert "Number of prompts: use a whole number from 1 to 10,000, not 0." in after[judge._view.line]
    assert list_jobs(database, "judge") == []


@pytest.mark.long
@pytest.mark.parametrize(
    "who", [(JUDGE, NAMES[0], NAMES[0]), (NAMES[0], NAMES[0], NAMES[1]), (None, NAMES[0], NAMES[1])]
)
async def test_mistakes_are_not_enqueued(judge: JudgeTab, database: Database, who: tuple[Any, str, str]):
    after = await begin(judge, *who)
    assert "notice" in after[judge._view.line]
    assert list_jobs(database, "judge") == []


@pytest.mark.long
def test_the_judging_is_described(judge: JudgeTab):
    models = judge._context.models()
    words = describe_judging(models, JUDGE, NAMES[0], NAMES[1])
    assert f"{JUDGE} is a toy" in words
    assert f"{NAMES[1]} first" in words
    assert "was not trained to judge" in describe_judging(models, NAMES[2], NAMES[0], NAMES[1])
    toy = [replace(model, spec=model.spec.model_copy(update={"toy": True, "judge": False})) for model in models]
    words = describe_judging(toy, JUDGE, NAMES[0], NAMES[1])
    assert f"{JUDGE} is a toy" in words
    assert "was not trained to judge" in words


def test_a_report_has_a_verdict_numbers_and_rows():
    good = report()
    words = report_html(good)
    assert "reliability checks passed" in words
    assert "unreadable: 1" in words
    assert "95 % interval" in words
    assert "changed with the order" in words
    table = report_table(good)
    assert "<script>" not in table
    assert "&lt;script&gt;" in table
    figure = report_plot(good)
    assert figure is not None
    assert [trace.x[0] for trace in figure.data] == [100, 0, 0, 100]


def test_a_judge_that_fails_is_shown_as_such():
    assert "not reliable" in report_html(report(canaries=[Canary("constant", 4, 1)]))
    nothing = report(rows=[])
    assert report_plot(nothing) is None
    assert "gave no verdict" in report_html(nothing)


def test_the_report_shows_canaries_and_how_far_to_trust_the_judge():
    assert "Nobody has voted" in report_html(report())
    opinions = [LabelledPair(f"p{i}", "<refunds>", "ab"[i % 2], (("ann", "ab"[i % 2]),)) for i in range(60)]  # type: ignore[arg-type] -- "a" or "b"
    words = report_html(report(people=agreement_by_category(opinions)))
    assert "Trust emu-judge for &lt;refunds&gt;." in words
    assert "60 votes" in words
    assert "Gives the same verdict when the answers are swapped" in words
    failed = report_html(report(canaries=[Canary("padded", 4, 0)]))
    assert "padded with repetition" in failed
    assert "<span class='badge bad'>failed</span>" in failed
