"""The Train tab without a browser: files are stored, trainings enqueued, watched and cancelled, errors are a line."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.campaigns.campaign import OPEN
from evals.campaigns.lifecycle import load_campaign
from evals.votes.vote_import import import_votes
from models.chat_templates import read_template
from models.database import Database
from models.files.stored_files import Files
from models.jobs.jobs import claim, finish, heartbeat, list_jobs
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from tests.train.conftest import style_rows
from tests.ui.conftest import Keyed, Page, filled, stand_in
from ui.backend.context import PageContext
from ui.look.components import show_confirmation
from ui.owners.training.auto_values import NUMBERS, TrainingForm, preview_auto_values
from ui.owners.training.tab import TrainTab, TrainView

BASE = Path(__file__).resolve().parents[3] / "models" / "demo" / "base"
AUTO = ("sft", "lora", 0.1, "auto", "auto", "auto", "auto", "auto")
ROWS = "\n".join(json.dumps(row) for row in style_rows(60)).encode()


@pytest.fixture
def tab(settings: Settings, database: Database) -> TrainTab:
    Registry(database).register(ModelSpec(id="demo-base", kind="base", path=str(BASE)))
    return TrainTab(PageContext(settings, database), stand_in(TrainView, numbers=len(NUMBERS)))


@pytest.fixture
def data(settings: Settings, database: Database) -> str:
    return Files(settings, database).store("tickets.jsonl", ROWS, "fine-tune").id


def form(tab: TrainTab, data: str, name: str = "styled", settings: Any = AUTO) -> dict[Any, Any]:
    method, tune, share, *numbers = settings
    return filled(
        tab._view, data=data, base="demo-base", name=name, kind="adapter", method=method, tune=tune, share=share,
        numbers=numbers, fold_system=False, chat_template="",
    )  # fmt: skip


async def begun(tab: TrainTab, data: str, name: str = "styled", settings: Any = AUTO) -> dict[Any, Any]:
    return await tab.begin(form(tab, data, name, settings))


@pytest.mark.long
async def test_a_training_is_enqueued_from_the_form(tab: TrainTab, data: str, database: Database) -> None:
    view = tab._view
    first = await tab.refresh(None, None, None)
    assert (first[view.data]["value"], first[view.base]["value"]) == (data, "demo-base")
    after = await begun(tab, data, settings=("sft", "lora", 0.2, "2", "8", "auto", "auto", "auto"))
    (job,) = list_jobs(database, "train")
    assert job.params | {"data": ""} == {
        "data": "", "base": "demo-base", "name": "styled", "kind": "adapter", "method": "sft", "validation": 0.2,
        "hyperparameters": {"tune": "lora", "epochs": 2.0, "rank": 8},
    }  # fmt: skip
    assert job.params["data"].endswith(f"{data}/tickets.jsonl")
    assert after[view.timer]["active"] is True
    assert "waiting for the worker" in after[view.state]


@pytest.mark.long
async def test_a_template_and_folded_system_messages_go_to_the_job(
    tab: TrainTab, data: str, database: Database
) -> None:
    values = form(tab, data) | filled(tab._view, fold_system=True, chat_template="chatml")
    await tab.begin(values)
    (job,) = list_jobs(database, "train")
    assert job.params["columns"] == {"fold_system": True}
    assert job.params["chat_template"] == read_template("chatml")


@pytest.mark.long
async def test_tokens_are_counted_by_the_bases_own_tokenizer(tab: TrainTab, data: str) -> None:
    html = await tab.count_tokens(form(tab, data))
    assert "tokens</b> by the model’s own tokenizer" in html
    assert " for each example. " in html
    assert "Choose a training file" in await tab.count_tokens(form(tab, ""))
    assert "There is no file" in await tab.count_tokens(form(tab, "file-none"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("", AUTO, "Enter a name for the new model"),
        ("demo-base", AUTO, "is taken"),
        ("x y", AUTO, "a model&#x27;s name"),
        ("good", ("sft", "lora", 0.1, "many", "auto", "auto", "auto", "auto"), "use a number, or auto"),
        ("good", ("sft", "lora", 0.1, "auto", "9999", "auto", "auto", "auto"), "rank is 9999"),
    ],
)
async def test_a_mistake_is_a_line_and_enqueues_nothing(
    tab: TrainTab, data: str, database: Database, name: str, choices: Any, message: str
) -> None:
    assert message in (await begun(tab, data, name, choices))[tab._view.line]
    assert list_jobs(database, "train") == []


@pytest.mark.long
async def test_votes_become_pairs_and_a_model_joins_the_vote(tab: TrainTab, data: str, database: Database) -> None:
    view = tab._view
    assert "No votes can be used yet" in (await tab.use_votes("demo-base", None))[view.line]
    rows = [
        {
            "prompt": f"q{number}",
            "model_a": "old",
            "model_b": "new",
            "answer_a": "x",
            "answer_b": "y",
            "winner": "model_b",
        }
        for number in range(3)
    ]
    path = tab._context.settings.home / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_votes(database, path)
    chosen = await tab.use_votes("demo-base", None)
    assert "3 preference pairs" in chosen[view.line]
    assert chosen[view.method] == "dpo"
    stored = Files(tab._context.settings, database).get(chosen[view.data]["value"])
    pair = json.loads(stored.path.read_text().splitlines()[0])
    assert (pair["preferred_output"][0]["content"], pair["non_preferred_output"][0]["content"]) == ("y", "x")

    Registry(database).register(ModelSpec(id="tuned", kind="adapter", base="demo-base", path="org/tuned"))
    await begun(tab, data)
    (job,) = list_jobs(database, "train")
    claim(database, "worker")
    assert (await tab.watch(job.id, None))[view.vote]["visible"] is False
    finish(database, job.id, "worker", result={"model": "tuned"})
    assert (await tab.watch(job.id, None))[view.vote]["visible"] is True
    assert "tuned</b> is in the open vote, with demo-base" in (await tab.put_to_vote(job.id))[view.voted]
    assert set(load_campaign(database, OPEN).models) == {"demo-base", "tuned"}
    assert "notice" in (await tab.put_to_vote(None))[view.voted]


@pytest.mark.parametrize("share", [0.9, -0.1, None])
async def test_a_share_out_of_range_is_refused(tab: TrainTab, data: str, database: Database, share: float) -> None:
    after = await begun(tab, data, settings=("sft", "lora", share, *AUTO[3:]))
    assert "Held out for validation: use a number from 0 to 0.5" in after[tab._view.line]
    assert list_jobs(database, "train") == []


async def test_automatic_values_are_previewed_for_this_data_and_base(tab: TrainTab, data: str) -> None:
    shown = await tab.preview(form(tab, data))
    assert "60 conversations" in shown
    assert "about 10,000 examples" in shown
    assert "0.0025" in shown
    assert "use a number" in await tab.preview(form(tab, data, settings=("sft", "lora", 0.1, "x", *AUTO[4:])))


def automatic_form(method: str) -> TrainingForm:
    return TrainingForm("data", "b", "", "adapter", method, "lora", 0.1, ())


def test_problems_of_the_data_are_shown_before_the_start(tmp_path: Path) -> None:
    base = ModelSpec(id="b", kind="base", path=str(BASE))
    file = tmp_path / "few.jsonl"
    file.write_bytes(b"\n".join(ROWS.splitlines()[:3]) + b"\n{broken\n")
    resolved, html = preview_auto_values(file, base, automatic_form("sft"))
    assert resolved is not None
    assert "3 conversations. 1 line will be skipped: line 4" in html
    resolved, html = preview_auto_values(file, base, automatic_form("dpo"))
    assert resolved is None
    assert "0 preference pairs" in html
    assert "This method cannot use the file&#x27;s 3 conversations" in html
    file.write_bytes(b"{broken\n")
    resolved, html = preview_auto_values(file, base, automatic_form("sft"))
    assert resolved is None
    assert "line 1" in html


@pytest.mark.long
async def test_a_run_is_watched_and_its_plot_drawn_once_and_then_updated(
    tab: TrainTab, data: str, database: Database, settings: Settings
) -> None:
    view = tab._view
    await begun(tab, data)
    job = claim(database, "worker")
    assert job is not None
    heartbeat(database, job.id, "worker", progress=0.1, message="step 1/9, loss <3>")
    folder = settings.runs_dir / job.id
    folder.mkdir(parents=True)
    metrics = folder / "metrics.jsonl"
    step = {"steps": 9, "epoch": 0.1, "tokens_per_s": 1234.5, "seconds": 3, "seconds_left": 62}
    metrics.write_text(
        json.dumps({"step": 0, "validation_loss": 3.5}) + "\n" + json.dumps(step | {"step": 1, "loss": 3.2}) + "\n"
    )
    first = await tab.watch(job.id, None)
    assert first[view.plot]["visible"] is True
    assert "1 / 9" in first[view.figures]
    assert "1,234" in first[view.figures]
    assert "1 min 02 s" in first[view.figures]
    assert "&lt;3&gt;" in first[view.state]
    shown = first[view.shown]
    assert view.plot not in await tab.watch(job.id, shown)  # nothing new, so nothing is drawn
    with metrics.open("a") as file:
        file.write(json.dumps(step | {"step": 2, "loss": 3.1}) + "\n" + '{"step": 3, "lo')
    second = await tab.watch(job.id, shown)
    assert view.plot not in second
    assert [trace["x"] for trace in json.loads(second[view.drawn])["data"]] == [[1, 2], [1, 2], [0]]
    registry = Registry(database)
    registry.register(ModelSpec(id="styled", kind="adapter", path="org/x", base="demo-base"))
    finish(database, job.id, "worker", result={"model": "styled", "kind": "adapter", "base": "demo-base",
                                               "loss_before": 3.5, "loss_after": 0.5})  # fmt: skip
    done = await tab.watch(job.id, second[view.shown])
    assert "href='/bot/styled/'" in done[view.result]
    assert "3.500 → 0.500" in done[view.result]
    assert done[view.timer]["active"] is False
    assert done[view.plot]["visible"] is True


async def test_cancelling_needs_confirmation(tab: TrainTab, data: str, database: Database) -> None:
    view = tab._view
    await begun(tab, data)
    (job,) = list_jobs(database, "train")
    assert show_confirmation(view.stop, view.sure, True)[view.sure]["visible"] is True
    assert list_jobs(database, "train")[0].status == "queued"
    assert show_confirmation(view.stop, view.sure, False)[view.sure]["visible"] is False
    after = await tab.stop(job.id, None)
    assert list_jobs(database, "train")[0].status == "cancelled"
    assert "cancelled" in after[view.state]


async def test_a_failed_run_says_why(tab: TrainTab, data: str, database: Database) -> None:
    await begun(tab, data)
    job = claim(database, "worker")
    assert job is not None
    finish(database, job.id, "worker", error="The <disk> is full.")
    assert "The &lt;disk&gt; is full." in (await tab.watch(job.id, None))[tab._view.state]


def test_only_owners_may_upload_a_file(open_page: Page, keyed_page: Keyed) -> None:
    name = {"x-filename": "t%C3%A4ts.jsonl"}
    sent = open_page.browser().post("/data/files", content=ROWS, headers=name)
    kept = Files(open_page.settings, open_page.database).get(sent.json()["id"])
    assert (kept.filename, kept.path.read_bytes(), kept.purpose) == ("täts.jsonl", ROWS, "fine-tune")
    refused = open_page.browser().post("/data/files", content=b"x", headers={"x-filename": "a.exe"})
    assert refused.status_code == 400
    assert "training data must be" in refused.json()["error"]["message"]
    assert open_page.browser().post("/data/files", content=b"", headers=name).status_code == 400
    assert open_page.browser().post("/data/files", content=ROWS).status_code == 400
    foreign = name | {"origin": "https://elsewhere.example"}
    assert open_page.browser().post("/data/files", content=ROWS, headers=foreign).status_code == 403
    assert keyed_page.page.browser().post("/data/files", content=ROWS, headers=name).status_code == 401
    assert Files(keyed_page.page.settings, keyed_page.page.database).list() == []
