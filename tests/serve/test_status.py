"""`parley status` over rows that a test writes."""

import io
import json
import os

import psutil
from rich.console import Console

from models.database import Database
from models.home.instance import read_state
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet import engine_states
from serve.launcher import status


def test_an_engines_last_words_are_shown_as_they_are(settings: Settings, database: Database) -> None:
    Registry(database).register(ModelSpec(id="base", kind="base", path="org/name"))
    words = "ended with status 1: OSError: [Errno 2] nothing at [/data/x]"
    engine_states.write_statuses(database, [engine_states.EngineStatus("base", "failed", message=words)])
    started = psutil.Process().create_time()
    state = {"pid": os.getpid(), "started": started, "ready": True, "gateway": settings.gateway_url, "processes": {}}
    (settings.home / "up.json").write_text(json.dumps(state))
    shown = io.StringIO()
    status.show(settings, database, Console(file=shown, width=200))
    assert words in shown.getvalue()


def test_a_number_that_another_process_has_now_is_no_parley(settings: Settings) -> None:
    settings.home.mkdir()
    state = {"pid": os.getpid(), "started": psutil.Process().create_time() - 60, "ready": True}
    (settings.home / "up.json").write_text(json.dumps(state))
    assert read_state(settings) is None
    state["started"] = psutil.Process().create_time()
    (settings.home / "up.json").write_text(json.dumps(state))
    assert read_state(settings) == state


def test_a_narrow_terminal_gets_whole_sentences_and_a_program_gets_json(settings: Settings, database: Database) -> None:
    Registry(database).register(ModelSpec(id="base", kind="base", path="org/name"))
    Registry(database).pin("base")
    engine_states.write_statuses(
        database, [engine_states.EngineStatus("base", "failed", message="gave up", memory_bytes=3 * 2**30)]
    )
    started = psutil.Process().create_time()
    state = {"pid": os.getpid(), "started": started, "ready": True, "gateway": settings.gateway_url, "processes": {}}
    (settings.home / "up.json").write_text(json.dumps(state))
    settings.logs_dir.mkdir(exist_ok=True)
    (settings.logs_dir / "engine-base.log").write_text("".join(f"line {number}\n" for number in range(20)))
    shown = io.StringIO()
    status.show(settings, database, Console(file=shown, width=60))
    assert "base: gave up" in shown.getvalue()
    assert "failed, pinned" in shown.getvalue()
    assert "3.0 GiB" in shown.getvalue()
    (model,) = status.report(settings, database)["models"]
    assert model["log_lines"] == [f"line {number}" for number in range(12, 20)]
    assert model["since"]
    assert json.dumps(model)
    rows = [
        engine_states.EngineStatus("base", "ready", memory_bytes=2**30),
        engine_states.EngineStatus("base#2", "failed", message="gave up", memory_bytes=2**30),
    ]
    engine_states.write_statuses(database, rows)
    shown = io.StringIO()
    status.show(settings, database, Console(file=shown, width=200))
    assert "ready, pinned, 2 replicas" in shown.getvalue()
    assert "base: 1 of 2 replicas are ready; base#2: gave up" in shown.getvalue()
    assert "2.0 GiB" in shown.getvalue()
