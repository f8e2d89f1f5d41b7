"""The Models tab without a browser: states, pins, retiring, a hosted model added; addresses are not told."""

import json
import os
from dataclasses import fields

import gradio as gr
import psutil
import pytest

from models.database import Database
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus
from serve.processes.logs import engine_log
from ui.backend.context import Room
from ui.owners.models.tab import Models, ModelsView

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def tab(settings: Settings, database: Database) -> Models:
    """Over a Parley that runs: an engine that is ready with an adapter, one that failed, one that sleeps."""
    registry = Registry(database)
    for name in ("ready", "broken", "sleeps"):
        registry.register(ModelSpec(id=name, kind="base", path=f"org/{name}"))
    registry.register(ModelSpec(id="lora", kind="adapter", base="ready", path="org/lora"))
    engine_states.write_statuses(
        database,
        [
            EngineStatus("ready", "ready", "http://127.0.0.1:45671", 7, memory_bytes=3 * 2**30),
            EngineStatus("lora", "ready", "http://127.0.0.1:45671", 7),
            EngineStatus("broken", "failed", message=f"ended with status 1: {EVIL}"),
            EngineStatus("sleeps", "stopped", message="asleep: asked for again, it starts"),
        ],
    )
    log = engine_log(settings.logs_dir, "broken")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"loading\n{EVIL}\nValueError: no such thing\n")
    state = {
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "ready": True,
        "gateway": "",
        "processes": {},
    }
    (settings.home / "up.json").write_text(json.dumps(state))
    with gr.Blocks():
        view = ModelsView(**{field.name: gr.State() for field in fields(ModelsView)})  # type: ignore[arg-type] -- any component will do
    return Models(Room(settings, database), view)


async def test_the_table_says_how_each_is_and_where_none(tab: Models) -> None:
    html = (await tab.refresh(None))[tab._view.table]
    assert html.index("lora") > html.index(">ready<br>")
    assert "on ready" in html
    assert "3.0 GiB" in html
    assert "asleep: asked for again, it starts" in html
    assert "ValueError: no such thing" in html
    assert EVIL not in html
    assert "45671" not in html


async def test_a_look_that_brings_nothing_new_changes_nothing(tab: Models) -> None:
    html, seen = await tab.tick("")
    assert html == seen
    again, _ = await tab.tick(seen)
    assert again == gr.skip()


async def test_pins_and_their_buttons(tab: Models, database: Database) -> None:
    view = tab._view
    first = await tab.refresh("ready")
    assert (first[view.pin]["visible"], first[view.unpin]["visible"]) == (True, False)
    done = await tab.pin("ready")
    assert Registry(database).pinned() == {"ready"}
    assert (done[view.pin]["visible"], done[view.unpin]["visible"]) == (False, True)
    assert "pinned</span>" in done[view.table]
    await tab.unpin("ready")
    assert Registry(database).pinned() == set()
    lora = await tab.choose("lora")
    assert (lora[view.pin]["visible"], lora[view.retire]["visible"]) == (False, True)
    assert "Choose a model" in (await tab.pin(None))[view.line]


async def test_retiring_is_asked_about_and_what_hangs_is_named(tab: Models, database: Database) -> None:
    view = tab._view
    assert tab.ask()[view.sure]["visible"] is True
    assert tab.keep()[view.sure]["visible"] is False
    assert "lora runs on the engine" in (await tab.retire("ready"))[view.line]
    done = await tab.retire("lora")
    assert "lora is retired" in done[view.line]
    assert "lora" not in done[view.table]
    assert [spec.id for spec in Registry(database).list()] == ["ready", "broken", "sleeps"]


async def test_a_hosted_model_is_added_or_refused_in_a_line(tab: Models, database: Database) -> None:
    view = tab._view
    done = await tab.add("gpt", "https://x/v1", "gpt-4.1", "OPENAI_API_KEY", ["ready"], "0.3", "$1,200")
    assert "gpt is registered" in done[view.line]
    spec = Registry(database).resolve("gpt")
    assert spec.fallbacks == ("ready",)
    assert spec.upstream is not None
    assert (spec.upstream.usd_per_million_input, spec.upstream.usd_per_million_output) == (0.3, 1200)
    for form, says in (
        (("x", "ftp://x", "", "", None, "", ""), "begins with"),
        (("x", "https://x/v1", "", "sk-proj-123", None, "", ""), "never the key"),
        (("x", "https://x/v1", "", "", None, "cheap", ""), "no price"),
        (("gpt", "https://x/v1", "", "", None, "", ""), "taken"),
    ):
        assert says in (await tab.add(*form))[view.line]


async def test_while_nothing_runs_nothing_is_said_to(tab: Models, settings: Settings) -> None:
    (settings.home / "up.json").unlink()
    html = (await tab.refresh(None))[tab._view.table]
    assert "badge'>ready" not in html
    assert html.count(">stopped<") == 4
