"""`parley models …` over a home of its own: additions and pins are in the registry; refusals are one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from models.chat_templates import read_template
from models.commands.models import WeightTools, add_models_commands
from models.database import Database
from models.errors import Invalid, ParleyError
from models.registry.new_model import NewModel
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from models.terminal import Home
from tests.models.folders import write_adapter, write_model
from tests.models.test_chat_templates import SYSTEMLESS

UPSTREAM = ("--upstream", "https://upstream.example/v1")


@pytest.fixture
def app(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    app = typer.Typer()
    add_models_commands(app)
    return app


def run(app: typer.Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], catch_exceptions=True)


def test_a_hosted_model_with_prices_and_fallbacks(app: typer.Typer, database: Database) -> None:
    assert run(app, "add", "second", *UPSTREAM).exit_code == 0
    prices = ("--usd-per-million-input", "0.3", "--usd-per-million-output", "1.2")
    done = run(app, "add", "first", *UPSTREAM, "--upstream-model", "m", "--fallback", "second", *prices)
    assert done.exit_code == 0
    spec = Registry(database).resolve("first")
    assert spec.fallbacks == ("second",)
    assert spec.upstream is not None
    assert (spec.upstream.model, spec.upstream.usd_per_million_output) == ("m", 1.2)
    shown = run(app, "show", "first").output
    assert "fallbacks  second" in shown
    assert run(app, "fallbacks", "second", "first").output == "Fallbacks of second: first.\n"
    assert "fallbacks  first" in run(app, "show", "second").output
    assert run(app, "fallbacks", "second").output == "Fallbacks of second: none.\n"
    assert "$0.3 in, $1.2 out" in shown


def test_the_list_shows_pins(app: typer.Typer, tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "llama"))
    assert run(app, "add", "llama", "--path", folder, "--pin", "--tool-call-parser", "hermes").exit_code == 0
    assert "listed, pinned" in run(app, "list").output
    (listed,) = json.loads(run(app, "list", "--json").output)
    assert listed["pinned"] is True
    assert listed["engine"]["tool_call_parser"] == "hermes"
    scaled = run(app, "scale", "llama", "1", "--max-replicas", "4").output
    assert scaled.startswith("llama is served by 1 to 4 engines")
    assert "max_replicas 4" in run(app, "show", "llama").output
    assert "replicas: Input should be" in str(run(app, "scale", "llama", "0").exception)
    assert "not pinned" in run(app, "unpin", "llama").output
    assert "stays in memory" in run(app, "pin", "llama").output


def test_a_path_alone_names_the_model_and_tools_get_what_needs_work(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    given: list[tuple[str, NewModel]] = []

    def tool(kind: str) -> Callable[[Home, NewModel], ModelSpec]:
        def work(home: Home, new: NewModel) -> ModelSpec:
            given.append((kind, new))
            return home.registry.register(ModelSpec(id=new.name, kind="base", path="org/x"))

        return work

    app = typer.Typer()
    add_models_commands(app, tools=WeightTools(merge=tool("merge"), unpack=tool("unpack")))
    gguf = tmp_path / "Qwen3 4B..Q4_K_M.gguf"
    gguf.touch()
    adapter = write_adapter(tmp_path / "rank-128", r=128)
    (write_model(tmp_path / "llama") / "tokenizer_config.json").write_text("{}")
    output = run(app, "add", str(tmp_path / "llama")).output
    assert "llama is registered as base" in output
    assert "It has no chat template, so chat requests are refused" in output
    assert run(app, "add", str(gguf)).exit_code == 0
    assert run(app, "add", "tuned", "--path", str(adapter), "--base", "llama", "--merge").exit_code == 0
    assert [(kind, new.name, new.path) for kind, new in given] == [
        ("unpack", "Qwen3-4B-Q4_K_M", str(gguf)), ("merge", "tuned", str(adapter)),
    ]  # fmt: skip


def test_a_chat_template_is_stored_with_its_model(app: typer.Typer, database: Database, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    options = ("--path", str(write_model(tmp_path / "m")), "--fold-system", "--chat-template")
    assert run(app, "add", "named", *options, "zephyr").exit_code == 0
    assert run(app, "add", "filed", *options, str(own)).exit_code == 0
    known = {spec.id: spec for spec in Registry(database).list()}
    assert known["named"].engine.chat_template == read_template("zephyr")
    assert known["filed"].engine.chat_template == own.read_text()
    assert {spec.fold_system for spec in known.values()} == {"later"}
    shown = run(app, "show", "filed").output
    assert "chat_template of 62 characters" in shown
    assert "those after the first message are put into user turns" in shown


def test_an_adapter_folds_as_the_template_that_serves_it(app: typer.Typer, database: Database, tmp_path: Path) -> None:
    """Its own folder has no template, so its base's decides whether system messages are possible."""
    for base, template in (("with", "chatml"), ("without", None)):
        folder = write_model(tmp_path / base)
        if template is None:
            (folder / "chat_template.jinja").write_text(SYSTEMLESS)
        options = ("--chat-template", template) if template else ("--fold-system",)
        assert run(app, "add", base, "--path", str(folder), *options).exit_code == 0
    adapter = str(write_adapter(tmp_path / "lora"))
    for name, base, options in (("a", "with", ("--fold-system",)), ("b", "with", ()), ("c", "without", ())):
        done = run(app, "add", name, "--path", adapter, "--base", base, *options)
        assert done.exit_code == 0, done.exception
    folded = {spec.id: spec.fold_system for spec in Registry(database).list()}
    assert folded == {"with": "none", "without": "all", "a": "later", "b": "none", "c": "all"}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("add", "x", *UPSTREAM, "--fallback", "nobody"), "not registered"),
        (("add", "x", "--path", "hub/id", "--chat-template", "alpaca"), "no chat template 'alpaca': use chatml, "),
        (("add", "x", *UPSTREAM, "--pin"), "not have its own engine"),
        (("add", "x", "--path", "hub/id", "--fallback", "y"), "not registered"),
        (("add", "x", "--path", "hub/id", "--credential", "A_KEY"), "need the upstream's address"),
        (("pin", "nobody"), "There is no model"),
        (("add", "x" * 300), "The model has no location"),
        (("add", "x", "--path", "~nobody-of-this-name/llama"), "There is no folder ~nobody-of-this-name/llama"),
        (("add", "x", "--path", "/x" * 3000), "There is no folder /x/x"),
        (("add", "x", "--path", "org/" + "x" * 300), "There is no folder org/xx"),  # no name for the hub's cache
        (("add", "x", "--path", "org/x", "--chat-template", "~nobody-of-this-name/t"), "There is no chat template"),
        (
            ("add", "x", "--path", "org/x", "--dtype", "float8"),
            "There is no number format 'float8': use auto, bfloat16",
        ),
    ],
)
def test_invalid_arguments_are_one_line(app: typer.Typer, arguments: tuple[str, ...], fault: str) -> None:
    done = run(app, *arguments)
    assert done.exit_code == 1
    assert isinstance(done.exception, ParleyError)
    assert fault in str(done.exception)


def test_an_alias_is_split_shown_and_moved_back(app: typer.Typer, database: Database) -> None:
    for name in ("a", "b"):
        assert run(app, "add", name, *UPSTREAM).exit_code == 0
    assert run(app, "alias", "support", "--to", "a=90, b=10").output == "support → a 90 %, b 10 %\n"
    assert Registry(database).alias_weights() == {"support": {"a": 90.0, "b": 10.0}}
    assert "support 10 %" in run(app, "show", "b").output
    assert run(app, "alias", "support", "b").output == "support → b\n"
    assert Registry(database).alias_weights() == {}


@pytest.mark.parametrize("to", ["a", "a=", "=1", "a=1,a=2", "a=1,b=x", ""])
def test_wrong_weights_are_one_line(app: typer.Typer, to: str) -> None:
    done = run(app, "alias", "support", "--to", to)
    assert isinstance(done.exception, ParleyError)
    assert "such as a=90,b=10" in str(done.exception)


def test_an_upstreams_password_is_refused_and_not_repeated(app: typer.Typer, database: Database) -> None:
    for address in ("https://user:PASSWORD@upstream.example/v1", "https://PASSWORD@upstream.example/v1"):
        refused = run(app, "add", "secretive", "--upstream", address)
        assert isinstance(refused.exception, Invalid)
        assert "PASSWORD" not in str(refused.exception) + refused.output
    assert not Registry(database).list()
    # A spec of an earlier version still loads, and its address is shown without the password.
    stored = ModelSpec(
        id="old", kind="hosted", upstream=Upstream(base_url="https://user:PASSWORD@upstream.example:9/v1", model="m")
    )
    Registry(database).register(stored)
    shown = run(app, "show", "old").output
    assert "m at https://upstream.example:9/v1" in shown
    assert "PASSWORD" not in shown
