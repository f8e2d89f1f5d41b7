"""The demo on another base: the two styles are trained on it once, and served under their own names."""

from pathlib import Path

import pytest

from models.database import Database
from models.demo import OtherBase
from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings


def test_names_come_from_the_bases_location() -> None:
    hub, folder, registered = (OtherBase(name) for name in ("Qwen/Qwen3-0.6B", "/models/tiny/", "mine"))
    assert hub.models == ("Qwen3-0.6B", "Qwen3-0.6B-concise", "Qwen3-0.6B-friendly")
    assert (folder.id, registered.id) == ("tiny", "mine")
    assert [(model.kind, model.demo_id) for model in hub.styles] == [
        ("merged", "support-concise"),
        ("adapter", "support-friendly"),
    ]


@pytest.mark.training
def test_both_styles_are_trained_once_on_a_base_from_a_folder(
    tiny_base: Path, settings: Settings, database: Database
) -> None:
    from train.demo.other_base import install_styles

    registry = Registry(database)
    lines: list[str] = []
    other = OtherBase(str(tiny_base))
    install_styles(other, settings=settings, registry=registry, report=lines.append, conversations=16)
    # A random model may round too much in bf16 to be listed.
    specs = {spec.id: spec for spec in registry.list(include_candidates=True)}
    assert set(specs) == set(other.models)
    assert [specs[name].kind for name in other.models] == ["base", "merged", "adapter"]
    assert specs["tiny-friendly"].base == specs["tiny-concise"].parent == "tiny"
    bot = specs["tiny-concise"].bot
    assert bot is not None
    assert "short" in bot.greeting
    assert lines[0].startswith("Training 2 styles on ")
    assert "about" in lines[0]
    assert any(line.startswith("tiny-friendly: step") for line in lines)
    lines.clear()
    install_styles(other, settings=settings, registry=registry, report=lines.append, conversations=16)
    assert lines == []
    with pytest.raises(Invalid, match="belongs to another model"):
        install_styles(OtherBase("somebody/tiny"), settings=settings, registry=registry, report=lines.append)
