"""train/publication/push.py against a fake hub on a real socket: pushed files, withheld files, one-line refusals."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from models.database import Database, utcnow
from models.errors import Conflict, Invalid
from models.files.atomic import publish_folder
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import Settings
from models.spec import ModelSpec, Parity
from tests.fakes.hub import TOKEN, Hub, fake_hub
from tests.stack import ROOT
from train.publication.push import prepare_push

WEIGHTS = b"weights" * 100


@pytest.fixture
def hub() -> Iterator[Hub]:
    with fake_hub() as hub:
        yield hub


@pytest.fixture
def registry(settings: Settings, database: Database, tmp_path: Path) -> Registry:
    """A base in a folder of the user's, and a model that was published from it."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"b")
    registry = Registry(database)
    registry.register(ModelSpec(id="base", kind="base", path=str(base)))
    with publish_folder(settings.models_dir) as pending:
        (pending.path / "model.safetensors").write_bytes(WEIGHTS)
        (pending.path / "config.json").write_text("{}")
        (pending.path / "probes.json").write_text('{"source": "", "conversations": [{"messages": "a secret order"}]}')
        (pending.path / "training-result.json").write_text("{}")
    registry.register(ModelSpec(id="ft:tuned", kind="merged", path=str(pending.final), base="base"))
    return registry


def parley(settings: Settings, hub: str, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    # Xet storage is a protocol of its own, which the fake does not speak.
    extra = {"HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "COLUMNS": "100"}
    environment = child_environment(settings, **extra, HF_HOME=str(settings.home / "hf"))
    command = [sys.executable, "-m", "parley", "models", "push", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.long
def test_weights_and_card_go_and_what_names_the_data_stays(settings: Settings, registry: Registry, hub: Hub) -> None:
    done = parley(settings, hub.url, "ft:tuned", "acme/tuned")
    assert done.returncode == 0, done.stderr
    assert hub.repos == {"acme/tuned": True}  # private
    assert set(hub.files) == {"README.md", "config.json", "model.safetensors"}
    assert hub.files["model.safetensors"] == WEIGHTS
    front = yaml.safe_load(hub.files["README.md"].decode().split("---")[1])
    assert (front["base_model"], front["library_name"], front["license"]) == ("base", "transformers", "unknown")
    assert set(hub.checked_cards) == {hub.files["README.md"].decode()}
    assert (
        done.stdout.index("model.safetensors") < done.stdout.index("files to acme/tuned") < done.stdout.index("Pushed")
    )
    assert "700 bytes" in done.stdout
    assert "probes.json, training-result.json" in done.stdout


@pytest.mark.long
def test_a_public_push_is_announced(settings: Settings, registry: Registry, hub: Hub) -> None:
    done = parley(settings, hub.url, "ft:tuned", "acme/tuned", "--public", "--json")
    assert json.loads(done.stdout)["repo"] == "acme/tuned"
    assert hub.repos == {"acme/tuned": False}


@pytest.mark.long
def test_what_everybody_sees_already_gets_no_private_push(settings: Settings, registry: Registry, hub: Hub) -> None:
    hub.repos["acme/tuned"] = False
    done = parley(settings, hub.url, "ft:tuned", "acme/tuned")
    assert "push with --public" in done.stderr
    assert not hub.files


@pytest.mark.long
@pytest.mark.parametrize(
    ("repo", "token", "gone", "message"),
    [
        ("acme/x", "wrong", False, "does not know this token"),
        ("forbidden/x", TOKEN, False, "may not write to forbidden/x"),
        ("acme/x", TOKEN, True, "cannot be reached"),
        ("no-owner", TOKEN, False, "use owner/name"),
    ],
)
def test_each_refusal_is_one_line(
    settings: Settings, registry: Registry, hub: Hub, repo: str, token: str, gone: bool, message: str
) -> None:
    done = parley(settings, "http://127.0.0.1:9" if gone else hub.url, "ft:tuned", repo, token=token)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
    assert not hub.files


def test_a_base_of_the_users_needs_a_card_and_keeps_it(settings: Settings, registry: Registry) -> None:
    with pytest.raises(Invalid, match=r"no card: write a README\.md"):
        prepare_push("base", "acme/base", registry=registry, settings=settings)
    card = Path(str(registry.resolve("base").path)) / "README.md"
    card.write_text("Mine.")
    assert [name for name, _ in prepare_push("base", "acme/base", registry=registry, settings=settings).files] == [
        "README.md", "model.safetensors",
    ]  # fmt: skip
    assert card.read_text() == "Mine."


def test_what_was_refused_is_not_pushed(settings: Settings, registry: Registry) -> None:
    refused = Parity(
        checked=utcnow(), probes=1, source="", tokens=1, dtype="bfloat16", agreement=0.5, kl=1, refused="it strays"
    )
    registry.set_parity("ft:tuned", refused)
    with pytest.raises(Conflict, match="it strays"):
        prepare_push("ft:tuned", "acme/x", registry=registry, settings=settings)


def test_a_folder_that_is_gone_is_reported(settings: Settings, registry: Registry) -> None:
    folder = Path(str(registry.resolve("ft:tuned").path))
    os.rename(folder, folder.with_name("elsewhere"))
    with pytest.raises(Invalid, match="no weights on this machine"):
        prepare_push("ft:tuned", "acme/x", registry=registry, settings=settings)
