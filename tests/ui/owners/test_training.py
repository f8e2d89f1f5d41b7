"""The Train tab without a browser: files are kept, trainings enqueued, watched and cancelled, and faults are a line."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from models.database import Database
from models.files import Files
from models.jobs import claim, finish, heartbeat, list_jobs
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from tests.train.conftest import style_rows
from tests.ui.conftest import Keyed, Page
from ui.backend.context import Room
from ui.owners.training.auto_values import Asked, automatic
from ui.owners.training.tab import Train, TrainView

BASE = Path(__file__).resolve().parents[3] / "models" / "demo" / "base"
AUTO = ("sft", "lora", 0.1, "auto", "auto", "auto", "auto", "auto")
ROWS = "\n".join(json.dumps(row) for row in style_rows(60)).encode()


@pytest.fixture
def tab(settings: Settings, database: Database) -> Train:
    Registry(database).register(ModelSpec(id="demo-base", kind="base", path=str(BASE)))
    with gr.Blocks():
        view = TrainView(*(gr.State() for _ in fields(TrainView)))  # pyrefly: ignore -- stand-ins, used as keys alone
    return Train(Room(settings, database), view)


@pytest.fixture
def data(settings: Settings, database: Database) -> str:
    return Files(settings, database).store("tickets.jsonl", ROWS, "fine-tune").id


async def begun(tab: Train, data: str, name: str = "styled", asked: Any = AUTO) -> dict[Any, Any]:
    return await tab.begin(data, "demo-base", None, name, "adapter", *asked)


async def test_a_training_is_enqueued_as_the_form_says(tab: Train, data: str, database: Database) -> None:
    view = tab._view
    first = await tab.refresh(None, None, None)
    assert (first[view.data]["value"], first[view.base]["value"]) == (data, "demo-base")
    after = await begun(tab, data, asked=("sft", "lora", 0.2, "2", "8", "auto", "auto", "auto"))
    (job,) = list_jobs(database, "train")
    assert job.params | {"data": ""} == {
        "data": "", "base": "demo-base", "name": "styled", "kind": "adapter", "method": "sft", "validation": 0.2,
        "hyperparameters": {"tune": "lora", "epochs": 2.0, "rank": 8},
    }  # fmt: skip
    assert job.params["data"].endswith(f"{data}/tickets.jsonl")
    assert after[view.timer]["active"] is True
    assert "waiting for the worker" in after[view.state]


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("", AUTO, "Give the new model a name"),
        ("demo-base", AUTO, "is taken"),
        ("x y", AUTO, "a model&#x27;s name"),
        ("good", ("sft", "lora", 0.1, "many", "auto", "auto", "auto", "auto"), "use a number, or auto"),
        ("good", ("sft", "lora", 0.1, "auto", "9999", "auto", "auto", "auto"), "rank is 9999"),
    ],
)
async def test_what_makes_no_sense_is_a_line_and_enqueues_nothing(
    tab: Train, data: str, database: Database, name: str, asked: Any, says: str
) -> None:
    assert says in (await begun(tab, data, name, asked))[tab._view.line]
    assert list_jobs(database, "train") == []


async def test_the_rules_are_shown_for_this_data_and_base(tab: Train, data: str) -> None:
    shown = await tab.explain(data, "demo-base", *AUTO)
    assert "60 conversations" in shown
    assert "about 10,000 examples" in shown
    assert "0.0025" in shown
    assert "use a number" in await tab.explain(data, "demo-base", "sft", "lora", 0.1, "x", *AUTO[4:])


def test_what_is_wrong_with_the_data_is_told_before_the_start(tmp_path: Path) -> None:
    base = ModelSpec(id="b", kind="base", path=str(BASE))
    file = tmp_path / "few.jsonl"
    file.write_bytes(b"\n".join(ROWS.splitlines()[:3]) + b"\n{broken\n")
    resolved, told = automatic(file, base, Asked("sft", "lora", 0.1, {}))
    assert resolved is not None
    assert "3 conversations; left out: line 4" in told
    resolved, told = automatic(file, base, Asked("dpo", "lora", 0.1, {}))
    assert resolved is None
    assert "0 pairs of answers" in told
    assert "3 conversations, which this method cannot learn from" in told
    file.write_bytes(b"{broken\n")
    resolved, told = automatic(file, base, Asked("sft", "lora", 0.1, {}))
    assert resolved is None
    assert "line 1" in told


async def test_a_run_is_watched_its_picture_drawn_once_and_then_moved(
    tab: Train, data: str, database: Database, settings: Settings
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
    assert "1 / 9" in first[view.numbers]
    assert "1,234" in first[view.numbers]
    assert "1 min 02 s" in first[view.numbers]
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


async def test_stopping_is_asked_twice(tab: Train, data: str, database: Database) -> None:
    view = tab._view
    await begun(tab, data)
    (job,) = list_jobs(database, "train")
    assert tab.ask()[view.sure]["visible"] is True
    assert list_jobs(database, "train")[0].status == "queued"
    assert tab.keep_on()[view.sure]["visible"] is False
    after = await tab.stop(job.id, None)
    assert list_jobs(database, "train")[0].status == "cancelled"
    assert "cancelled" in after[view.state]


async def test_a_failed_run_says_why(tab: Train, data: str, database: Database) -> None:
    await begun(tab, data)
    job = claim(database, "worker")
    assert job is not None
    finish(database, job.id, "worker", error="The <disk> is full.")
    assert "The &lt;disk&gt; is full." in (await tab.watch(job.id, None))[tab._view.state]


def test_a_file_is_kept_for_owners_alone(open_page: Page, keyed_page: Keyed) -> None:
    name = {"x-filename": "t%C3%A4ts.jsonl"}
    sent = open_page.browser().post("/data/files", content=ROWS, headers=name)
    kept = Files(open_page.settings, open_page.database).get(sent.json()["id"])
    assert (kept.filename, kept.path.read_bytes(), kept.purpose) == ("täts.jsonl", ROWS, "fine-tune")
    refused = open_page.browser().post("/data/files", content=b"x", headers={"x-filename": "a.exe"})
    assert refused.status_code == 400
    assert "training data is" in refused.json()["error"]["message"]
    assert open_page.browser().post("/data/files", content=b"", headers=name).status_code == 400
    assert open_page.browser().post("/data/files", content=ROWS).status_code == 400
    foreign = name | {"origin": "https://elsewhere.example"}
    assert open_page.browser().post("/data/files", content=ROWS, headers=foreign).status_code == 403
    assert keyed_page.page.browser().post("/data/files", content=ROWS, headers=name).status_code == 401
    assert Files(keyed_page.page.settings, keyed_page.page.database).list() == []
