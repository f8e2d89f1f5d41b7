"""A base without a chat template is trained and served with a named one.

The template, the end of a turn and the folding of system messages go with the model.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.chat_templates import read_template
from models.database import open_database, upgrade
from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from serve.fleet.capabilities import read_capabilities
from serve.fleet.engine_files import generation_settings
from tests.train.conftest import style_rows
from train import Hyperparameters, Publication, publish, train
from train.data.readers import Columns
from train.trainers.bases import load_tokenizer

pytestmark = pytest.mark.training
CHATML = read_template("chatml")


@pytest.fixture(scope="module")
def bare(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as a pretrained one: no chat template, and <|im_end|> is a token at which nothing stops."""
    folder = tmp_path_factory.mktemp("bare") / "bare"
    shutil.copytree(tiny_base, folder)
    (folder / "chat_template.jinja").unlink()
    added = {
        token["content"]: token["id"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    }
    for file, changed in (
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>"}),
        ("config.json", {"eos_token_id": added["<|endoftext|>"]}),
        ("generation_config.json", {"eos_token_id": added["<|endoftext|>"]}),
    ):
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(values | changed))
    return folder


def new_home(folder: Path) -> tuple[Settings, Registry]:
    settings = load_settings(home=folder, device="cpu")
    upgrade(settings)
    return settings, Registry(open_database(settings))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Registry]:
    return new_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def tuned(bare: Path, home: tuple[Settings, Registry]) -> Any:
    settings, registry = home
    turns = [{"role": "system", "content": "Be brief now."}, *style_rows(1, seed=5)[0]["messages"]]
    rows = [{"messages": [*row["messages"], *turns]} for row in style_rows(20)]
    return train(
        rows, base=bare, name="tuned", settings=settings, registry=registry, chat_template=CHATML,
        columns=Columns(fold_system=True), hyperparameters=Hyperparameters(epochs=0.2, rank=4), threads=2,
    )  # fmt: skip


def stops(folder: Path) -> set[str]:
    from transformers import AutoTokenizer

    ids = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    return set(AutoTokenizer.from_pretrained(str(folder)).convert_ids_to_tokens(ids))


def test_the_adapters_base_is_registered_with_the_template(tuned: Any, home: Any, bare: Path) -> None:
    _, registry = home
    spec = registry.resolve("tuned")
    base = registry.resolve(str(spec.base))
    assert (spec.kind, spec.fold_system, base.path) == ("adapter", "later", str(bare))
    assert base.engine.chat_template == CHATML == (spec.folder / "chat_template.jinja").read_text()
    known = read_capabilities(spec, base, adapters=True)
    assert known is not None
    assert known.chat
    # The base's engine stops where the template ends a turn; the adapter's folder tells other servers.
    settings = generation_settings(base)
    assert settings is not None
    assert settings["eos_token_id"] == json.loads((spec.folder / "generation_config.json").read_text())["eos_token_id"]
    assert "--generation-config FOLDER" in (spec.folder / "README.md").read_text()


def test_the_data_was_folded_and_counted(tuned: Any) -> None:
    (folded,) = [problem for problem in tuned.problems if problem.code == "system-folded"]
    assert folded.message.startswith("20 system messages in the middle of a conversation are folded")
    assert folded.severity == "warning"
    (probe, *_) = json.loads((tuned.run_folder / "probes.json").read_text())["conversations"]
    assert [message["role"] for message in probe["messages"]] == ["user", "assistant", "user", "assistant"]
    assert probe["messages"][2]["content"].startswith("Be brief now.\n\nwhere is order ")


def test_a_base_that_is_served_without_it_gets_merged_weights_with_it(tuned: Any, bare: Path, tmp_path: Path) -> None:
    settings, registry = new_home(tmp_path)
    registry.register(ModelSpec(id="bare", kind="base", path=str(bare)))
    published = publish(tuned.run_folder, Publication("tuned"), registry=registry, settings=settings)
    spec = registry.resolve("tuned")
    assert (published.kind, spec.kind, spec.fold_system) == ("merged", "merged", "later")
    assert spec.engine.chat_template is None
    assert spec.folder is not None
    assert (spec.folder / "chat_template.jinja").read_text() == CHATML
    assert stops(spec.folder) == {"<|endoftext|>", "<|im_end|>"}
    assert generation_settings(spec) is None  # its own folder says where it stops


def test_a_base_without_a_template_names_the_option(bare: Path, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"no chat template: .* `--chat-template` and one of chatml, gemma, .* or a file"):
        train(style_rows(20), base=bare, out=tmp_path / "run")


def test_a_template_whose_end_is_no_token_is_a_warning(tuned: Any, bare: Path) -> None:
    from train.trainers.bases import find_base, with_options
    from train.trainers.templates import turn_end_problem

    def problem(name: str) -> Any:
        return turn_end_problem(load_tokenizer(with_options(find_base(bare), read_template(name), False)))

    assert problem("chatml") is None
    assert problem("plain") is None
    warning = problem("gemma")
    assert (warning.code, warning.line, warning.severity) == ("turn-end", 0, "warning")
    assert "'<end_of_turn>', which is not a single token of this base" in warning.message
    assert "--chat-template plain" in warning.mend


def test_code_that_comes_with_a_base_is_refused_by_the_name_of_its_option(tmp_path: Path) -> None:
    from models.errors import Unavailable
    from train.trainers.bases import find_base, load_config

    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "ours", "auto_map": {"AutoConfig": "configuration_ours.OursConfig"}})
    )
    (tmp_path / "configuration_ours.py").write_text("raise SystemExit('this code ran')\n")
    with pytest.raises(Unavailable, match=r"needs code that comes with the model: .* --trust-remote-code"):
        load_config(find_base(tmp_path))
