"""`parley serve`: what it registers, under which names, and that it serves without page and worker."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

import serve
from models.database import Database
from models.errors import ParleyError
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from serve.launcher.serve_command import ModelOptions, register
from tests.models.folders import write_adapter, write_model
from tests.stack import ROOT, free_ports

ENGINE = {"max_model_len": 512, "dtype": "auto"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_model(tmp_path / "llama-3")


def named(settings: Settings, *wanted: str, base: str | None = None, pin: bool = False) -> list[str]:
    return [spec.id for spec in register(settings, wanted, ModelOptions(base, ENGINE, pin), lambda _: None)]


def test_folders_hub_ids_and_names_are_registered_once(settings: Settings, database: Database, weights: Path) -> None:
    lora = write_adapter(weights.parent / "lora")
    assert named(settings, str(weights), "org/name", pin=True) == ["llama-3", "org/name"]
    assert named(settings, f"support={lora}", base="llama-3") == ["support"]
    registry = Registry(database)
    assert [(spec.id, spec.kind, spec.lora_rank) for spec in registry.list()] == [
        ("llama-3", "base", None), ("org/name", "base", None), ("support", "adapter", 8)
    ]  # fmt: skip
    assert registry.resolve("llama-3").engine.max_model_len == 512
    assert registry.pinned() == {"llama-3", "org/name"}
    registry.alias("other", "support")
    assert named(settings, str(weights), "org/name", "other") == ["llama-3", "org/name", "support"]
    assert len(registry.list()) == 3


def test_a_base_and_its_adapter_are_named_in_one_command(settings: Settings, database: Database, weights: Path) -> None:
    lora = write_adapter(weights.parent / "lora")
    assert named(settings, str(weights), str(lora), base="llama-3") == ["llama-3", "lora"]
    kinds = {spec.id: (spec.kind, spec.base) for spec in Registry(database).list()}
    assert kinds == {"llama-3": ("base", None), "lora": ("adapter", "llama-3")}


def test_what_is_no_model_is_one_line(settings: Settings, database: Database, weights: Path) -> None:
    named(settings, str(weights))
    with pytest.raises(ParleyError, match="not a registered model, a folder"):
        named(settings, "nothing-here")
    with pytest.raises(ParleyError, match="belongs to another model"):
        named(settings, "llama-3=org/name")
    Registry(database).retire("llama-3")
    with pytest.raises(ParleyError, match="is retired"):
        named(settings, str(weights))


def test_help_explains_every_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    from parley import build

    shown = CliRunner().invoke(build(), ["serve", "--help"]).output
    for flag in ("--port", "--device", "--engine-memory-gib", "--queue-wait-s", "--stop-grace-s", "--pin"):
        line = next(line for line in shown.splitlines() if flag in line)
        assert len(line.replace("│", "").split()) > 4, line
    assert "NAME=FOLDER" in shown


@pytest.mark.long
def test_it_serves_without_page_and_worker(home: Path) -> None:
    settings = load_settings(home=home, port=free_ports(1)[0])
    running = subprocess.Popen(
        [sys.executable, "-m", "parley", "serve", "--home", str(home), "--port", str(settings.port)],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        state = serve.Running(settings, running).wait_ready(60).state()
        assert state is not None
        assert set(state["processes"]) == {"gateway"}
        with urllib.request.urlopen(f"{settings.gateway_url}/models") as answer:
            assert json.load(answer)["data"] == []
    finally:
        running.terminate()
        running.wait(30)
