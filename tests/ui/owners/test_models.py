"""The Models tab without a browser: states, pins, retiring, adding a hosted model; addresses stay hidden."""

import json
import os
from datetime import timedelta
from typing import Any

import gradio as gr
import psutil
import pytest

from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus
from serve.processes.logs import engine_log
from tests.ui.conftest import filled, stand_in
from ui.backend.context import PageContext
from ui.look.components import show_confirmation
from ui.owners.models.alias_form import AliasHandler, AliasView
from ui.owners.models.html import models_table
from ui.owners.models.tab import ModelsTab, ModelsView
from ui.owners.models.weights_form import ENGINE_FIELDS, WeightsHandler, WeightsView

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def tab(settings: Settings, database: Database) -> ModelsTab:
    """A running Parley with a ready engine and its adapter, a failed engine and a sleeping one."""
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
            EngineStatus("sleeps", "stopped", message="asleep; starts with the next request"),
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
    return ModelsTab(PageContext(settings, database), stand_in(ModelsView))


async def add(tab: ModelsTab, *values: Any) -> dict[Any, Any]:
    """Adds a hosted model with these values of the form."""
    names = ("name", "address", "upstream_name", "credential", "fallbacks", "price_in", "price_out")
    return await tab.add(filled(tab._view, **dict(zip(names, values, strict=True))))


@pytest.mark.long
async def test_the_table_shows_states_and_no_addresses(tab: ModelsTab) -> None:
    html = (await tab.refresh(None))[tab._view.table]
    assert html.index("lora") > html.index(">ready<br>")
    assert "on ready" in html
    assert "3.0 GiB" in html
    assert "asleep; starts with the next request" in html
    assert "ValueError: no such thing" in html
    assert EVIL not in html
    assert "45671" not in html


@pytest.mark.long
async def test_the_table_shows_how_much_of_a_model_is_recorded(tab: ModelsTab, database: Database) -> None:
    upstream = {"base_url": "https://x/v1", "model": "ft:gpt:acme::A1"}
    spec = ModelSpec.model_validate(
        {"id": "old", "kind": "hosted", "upstream": upstream, "shutdown_date": "2027-01-14"}
    )
    Registry(database).register(spec)
    html = (await tab.refresh(None))[tab._view.table]
    assert "off on 2027-01-14: not recorded" in html
    assert html.count("not recorded") == 1


@pytest.mark.long
async def test_a_tick_without_changes_updates_nothing(tab: ModelsTab) -> None:
    html, seen = await tab.tick("")
    assert html == seen
    again, later = await tab.tick(seen)
    if again != gr.skip():  # the table has ages in seconds, and a second has passed
        again, _ = await tab.tick(later)
    assert again == gr.skip()


@pytest.mark.long
async def test_pins_and_their_buttons(tab: ModelsTab, database: Database) -> None:
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


@pytest.mark.long
async def test_an_engine_is_loaded_and_unloaded(tab: ModelsTab, database: Database) -> None:
    view = tab._view
    ready, asleep, hosted = [await tab.choose(name) for name in ("ready", "sleeps", "nothing")]
    assert (ready[view.load]["visible"], ready[view.unload]["visible"]) == (False, True)
    assert (asleep[view.load]["visible"], asleep[view.unload]["visible"]) == (True, False)
    assert (hosted[view.load]["visible"], hosted[view.unload]["visible"]) == (False, False)
    assert "ready is stopped until the next request" in (await tab.unload("ready"))[view.line]
    assert engine_states.take_sleep_requests(database) == {"ready"}
    assert "sleeps will be loaded" in (await tab.load("sleeps"))[view.line]
    assert "sleeps" in engine_states.read_demand(database, timedelta(minutes=1))
    await tab.pin("ready")
    assert (await tab.choose("ready"))[view.unload]["visible"] is False


@pytest.mark.long
async def test_aliases_and_their_shares_are_shown(tab: ModelsTab, database: Database) -> None:
    registry = Registry(database)
    registry.alias("plain", "ready")
    registry.split_alias("canary", {"ready": 90, "sleeps": 10})
    html = (await tab.refresh(None))[tab._view.table]
    assert "<b>canary</b> → ready 90 %, sleeps 10 %" in html
    assert "<b>plain</b> → ready<" in html


def test_a_state_is_not_repeated() -> None:
    model = {
        "id": "m", "kind": "base", "base": None, "state": "starting", "message": "starting", "pinned": False,
        "since": None, "memory_bytes": None,
    }  # fmt: skip
    assert models_table([model], running=True).count("starting") == 1


@pytest.mark.long
async def test_retiring_needs_confirmation_and_names_the_adapters(tab: ModelsTab, database: Database) -> None:
    view = tab._view
    assert show_confirmation(view.retire, view.sure, True)[view.sure]["visible"] is True
    assert show_confirmation(view.retire, view.sure, False)[view.sure]["visible"] is False
    assert "lora runs on the engine" in (await tab.retire("ready"))[view.line]
    done = await tab.retire("lora")
    assert "lora is retired" in done[view.line]
    assert "lora" not in done[view.table]
    assert [spec.id for spec in Registry(database).list()] == ["ready", "broken", "sleeps"]


async def test_a_hosted_model_is_added_or_refused_in_a_line(tab: ModelsTab, database: Database) -> None:
    view = tab._view
    done = await add(tab, "gpt", "https://x/v1", "gpt-4.1", "OPENAI_API_KEY", ["ready"], "0.3", "$1,200")
    assert "gpt is registered" in done[view.line]
    spec = Registry(database).resolve("gpt")
    assert spec.fallbacks == ("ready",)
    assert spec.upstream is not None
    assert (spec.upstream.usd_per_million_input, spec.upstream.usd_per_million_output) == (0.3, 1200)
    for form, message in (
        (("x", "ftp://x", "", "", None, "", ""), "starts with"),
        (("x", "https://x/v1", "", "sk-proj-123", None, "", ""), "never the key"),
        (("x", "https://x/v1", "", "", None, "cheap", ""), "not a price"),
        (("gpt", "https://x/v1", "", "", None, "", ""), "taken"),
    ):
        assert message in (await add(tab, *form))[view.line]


async def test_everything_is_stopped_while_parley_does_not_run(tab: ModelsTab, settings: Settings) -> None:
    (settings.home / "up.json").unlink()
    html = (await tab.refresh(None))[tab._view.table]
    assert "badge'>ready" not in html
    assert html.count(">stopped<") == 4


async def test_an_alias_is_pointed_to_a_model_and_split(settings: Settings, database: Database) -> None:
    registry = Registry(database)
    for name in ("v3", "v4"):
        registry.register(ModelSpec(id=name, kind="base", path=f"org/{name}"))
    view = stand_in(AliasView)
    handler = AliasHandler(PageContext(settings, database), view)

    async def save(alias: str, to: str) -> str:
        return (await handler.save(filled(view, alias=alias, to=to)))[view.line]

    assert "support now points to v3" in await save("support", " v3 ")
    assert registry.aliases() == {"support": "v3"}
    assert "v3 90 %, v4 10 %" in await save("support", "v3=90, v4=10")
    assert registry.alias_weights() == {"support": {"v3": 90.0, "v4": 10.0}}
    assert "name each model once" in await save("support", "v3=90, v3=10")
    assert "v5" in await save("support", "v3=90, v5=10")
    assert "Enter an alias" in await save("", "v3")
    assert registry.alias_weights() == {"support": {"v3": 90.0, "v4": 10.0}}


async def test_a_model_with_weights_is_added_with_its_engine(settings: Settings, database: Database) -> None:
    registry = Registry(database)
    registry.register(ModelSpec(id="old", kind="base", path="org/old"))
    view = stand_in(WeightsView, engine=len(ENGINE_FIELDS))
    handler = WeightsHandler(PageContext(settings, database), view)
    assert (await handler.choices())[view.base]["choices"] == ["", "old"]

    async def add(name: str, path: str, base: str = "", fallbacks: tuple[str, ...] = (), **engine: str) -> Any:
        texts = tuple(engine.get(field.name, "") for field in ENGINE_FIELDS)
        values = filled(view, name=name, path=path, base=base, fallbacks=list(fallbacks), pin=False, engine=texts)
        return await handler.add(values)

    done = await add(" new ", "org/new", "", ("old",), max_model_len="4096", gpu_memory_share=" 0.4 ", dtype="bfloat16")
    assert "new is registered as base" in done[view.line]
    assert done[view.path] == ""
    spec = registry.resolve("new")
    assert (spec.fallbacks, spec.engine.max_model_len, spec.engine.gpu_memory_share) == (("old",), 4096, 0.4)
    assert spec.engine.model_dump(exclude_defaults=True).keys() == {"max_model_len", "gpu_memory_share", "dtype"}
    for (name, path, base), engine, message in (
        (("", "org/x", ""), {}, "Enter the model&#x27;s name"),
        (("new", "org/x", ""), {}, "new"),
        (("x", "org/x", ""), {"max_model_len": "many"}, "Context length, tokens: &#x27;many&#x27; is not a number"),
        (("x", "org/x", ""), {"tensor_parallel_size": "0"}, "tensor_parallel_size"),
        (("x", "/nowhere/x", ""), {}, "/nowhere/x"),
    ):
        refused = await add(name, path, base, **engine)
        assert message in refused[view.line], refused[view.line]
        assert view.path not in refused
    assert {spec.id for spec in registry.list()} == {"old", "new"}
