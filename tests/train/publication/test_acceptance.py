"""Acceptance: a model is listed once its published weights match its training, through vLLM too."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.database import Database
from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from tests.stack import Stack, stack
from tests.train.conftest import style_rows
from train import Hyperparameters, publish_merge, train

DEMO = Path(__file__).resolve().parents[3] / "models" / "demo" / "base"


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database)


def tuned(registry: Registry, settings: Settings, name: str, seed: int = 0, **options: Any) -> Any:
    hyperparameters = Hyperparameters(epochs=1, rank=8, seed=seed)
    return train(
        style_rows(60, seed), base="base", name=name, settings=settings, registry=registry,
        hyperparameters=hyperparameters, threads=1, **options,
    )  # fmt: skip


@pytest.mark.training
def test_without_a_gateway_it_is_listed_with_a_note_that_vllm_was_not_compared(
    settings: Settings, registry: Registry
) -> None:
    from train.publication.acceptance import check_model

    registry.register(ModelSpec(id="base", kind="base", path=str(DEMO)))
    result = tuned(registry, settings, "styled")
    spec = registry.resolve("styled")
    assert spec.state == "listed"
    assert spec.parity is not None
    assert spec.parity.agreement >= 0.98
    assert spec.parity.probes == 16
    assert spec.parity.source == "held-out and learnt conversations"
    assert (spec.parity.served, spec.parity.refused) == (None, "")
    assert "parley up" in spec.parity.not_served
    folder = Path(str(spec.path))
    # Adapter and merged weights have exactly the chat template of the training.
    trained_with = (DEMO / "chat_template.jinja").read_bytes()
    assert (folder / "chat_template.jinja").read_bytes() == trained_with
    merged = publish_merge("styled", "merged", registry=registry, settings=settings)
    assert (merged.folder / "chat_template.jinja").read_bytes() == trained_with
    assert merged.parity.same_greedy == "16 of 16"
    assert merged.parity.difference is not None
    assert merged.parity.difference <= 1e-4
    card = (merged.folder / "README.md").read_text()
    assert "16 of 16" in card
    assert str(settings.home) not in card
    assert "order" not in card.partition("## Data")[2].partition("## Method")[0]  # no line of the data
    assert (merged.folder / "curves.svg").read_text().startswith("<svg")
    again = check_model("merged", registry=registry, settings=settings)
    assert (again.agreement, again.difference) == (merged.parity.agreement, merged.parity.difference)
    with pytest.raises(Invalid, match="only trained models"):
        check_model("base", registry=registry, settings=settings)
    shutil.rmtree(result.run_folder)  # without the run, only its own weights are left for the comparison
    assert "its own weights" not in check_model("merged", registry=registry, settings=settings).source


@pytest.mark.training
def test_what_does_not_agree_stays_a_candidate(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train.publication.comparison
    from train.publication.acceptance import check_model

    registry.register(ModelSpec(id="base", kind="base", path=str(DEMO)))
    honest = train.publication.comparison.load_adapted

    def rounded_badly(base: Any, adapter: Any, dtype: Any) -> Any:
        import torch

        model = honest(base, adapter, dtype)
        if dtype != torch.float32:
            for weight in model.parameters():
                weight.data += 0.05 * torch.randn_like(weight)
        return model

    monkeypatch.setattr(train.publication.comparison, "load_adapted", rounded_badly)
    events: list[Any] = []
    tuned(registry, settings, "bad", progress=events.append)
    spec = registry.resolve("bad")
    assert spec.state == "candidate"
    assert spec.parity is not None
    assert "under 98%" in spec.parity.refused
    assert any("bad is not listed" in getattr(event, "message", "") for event in events)
    monkeypatch.undo()
    assert not check_model("bad", registry=registry, settings=settings).refused
    assert registry.resolve("bad").state == "listed"


@pytest.mark.training
def test_an_adapter_whose_bases_template_has_changed_is_reported(
    settings: Settings, registry: Registry, tmp_path: Path
) -> None:
    from train.publication.acceptance import TemplateChanged, check_model

    base = shutil.copytree(DEMO, tmp_path / "base")
    registry.register(ModelSpec(id="base", kind="base", path=str(base)))
    tuned(registry, settings, "styled")
    template = base / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(TemplateChanged, match="chat template"):
        check_model("styled", registry=registry, settings=settings)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`parley up` with one base: an engine and a gateway."""
    from models.database import open_database, upgrade
    from models.settings.settings import load_settings

    home = tmp_path_factory.mktemp("listing") / "home"
    settings = load_settings(home=home)
    upgrade(settings)
    database = open_database(settings)
    Registry(database).register(ModelSpec(id="base", kind="base", path=str(DEMO)))
    database.dispose()
    with stack(home, flags=("--no-page", "--no-worker"), device="cpu") as running:
        yield running


@pytest.mark.engine
@pytest.mark.training
def test_adapter_and_merged_weights_are_compared_through_vllm_before_they_are_listed(running: Stack) -> None:
    from train.publication.acceptance import check_model

    registry, settings = Registry(running.database), running.settings
    states: list[str] = []
    messages: list[str] = []

    def listen(event: Any) -> None:
        messages.append(getattr(event, "message", ""))
        if messages[-1].startswith("Comparing the answers of styled"):
            states.append(registry.resolve("styled").state)

    tuned(registry, settings, "styled", progress=listen)
    assert states == ["candidate"]
    spec = registry.resolve("styled")
    assert spec.state == "listed", spec.parity
    assert spec.parity is not None
    assert spec.parity.served is not None, spec.parity.not_served
    assert spec.parity.served.asked == 16
    assert spec.parity.served.agreement >= 0.98
    assert "answers are identical" in (Path(str(spec.path)) / "README.md").read_text()
    merged = publish_merge("styled", "merged", registry=registry, settings=settings)
    assert merged.parity.served is not None, merged.parity.not_served
    assert registry.resolve("merged").state == "listed"
    print(json.dumps([spec.parity.model_dump(mode="json"), merged.parity.model_dump(mode="json")]))
    # The engine holds the original weights; files that have changed since then are detected.
    adapter = Path(str(spec.path)) / "adapter_model.safetensors"
    _turn(adapter)
    registry.set_state("styled", "candidate")
    refused = check_model("styled", registry=registry, settings=settings)
    assert "through vLLM" in refused.refused
    assert registry.resolve("styled").state == "candidate"


def _turn(adapter: Path) -> None:
    """Reverses the sign of the adapter's weights."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter)
    save_file({name: -weight if "lora_B" in name else weight for name, weight in weights.items()}, adapter)


@pytest.mark.training
def test_where_float32_does_not_fit_the_training_is_not_lost(
    settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from train.publication.acceptance import check_model
    from train.publication.comparison import NotEnoughMemory

    registry.register(ModelSpec(id="base", kind="base", path=str(DEMO)))
    events: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 10**8}))
        tuned(registry, settings, "styled", progress=events.append)
        with pytest.raises(NotEnoughMemory, match="0 GB is free"):
            check_model("styled", registry=registry, settings=settings)
        with pytest.raises(NotEnoughMemory, match="base in float32"):
            publish_merge("styled", "merged", registry=registry, settings=settings)
    assert any("Comparing needs base in float32" in getattr(event, "message", "") for event in events)
    spec = registry.resolve("styled")
    assert (spec.state, spec.parity) == ("listed", None)
    assert not check_model("styled", registry=registry, settings=settings).refused
    assert registry.resolve("styled").parity is not None
