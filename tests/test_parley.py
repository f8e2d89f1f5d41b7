"""The command line: helpful help, one-line errors, and the commands of the registry and keys."""

import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import models.demo
import parley as front_door
from evals.campaigns.lifecycle import load_campaign, remove_model
from evals.votes.prompts import add_prompts, prompts
from models.database import Database
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from models.terminal import Home
from serve.launcher.demo_content import report_progress
from tests.models.folders import write_model
from tests.stack import ROOT, free_ports

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def parley(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command's own `main` over the test's home, in this process: a new one takes a second to start."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in _environment(home, environment).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["parley", *arguments])
            try:
                front_door.main()
                code: object = 0
            except SystemExit as end:
                code = end.code
        return subprocess.CompletedProcess(arguments, int(str(code or 0)), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def process(home: Path) -> Run:
    """Runs the real command over the test's home, as a process of its own."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OPENAI_"))}
        return subprocess.run(
            [sys.executable, "-m", "parley", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env=own | _environment(home, environment),
        )

    return run


def _environment(home: Path, more: dict[str, str]) -> dict[str, str]:
    return {"PARLEY_HOME": str(home), "COLUMNS": "160", "NO_COLOR": "1"} | more


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(write_model(tmp_path / "weights"))


def commands(group: TyperGroup, path: str = "parley") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")


def test_every_command_explains_itself_and_each_of_its_options() -> None:
    root = typer.main.get_command(front_door.build())
    assert isinstance(root, TyperGroup)
    listed = dict(commands(root))
    assert {"parley up", "parley demo", "parley train", "parley judge", "parley models import openai"} <= set(listed)
    silent = [path for path, command in listed.items() if not command.help]
    silent += [
        f"{path} {parameter.name}"
        for path, command in listed.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert not silent


def test_a_paragraph_of_help_is_one_line_and_examples_keep_theirs() -> None:
    root = typer.main.get_command(front_door.build())
    assert isinstance(root, TyperGroup)
    texts = {path: inspect.cleandoc(command.help or "") for path, command in commands(root)}
    broken = [
        (path, part)
        for path, text in texts.items()
        for part in text.split("\n\n")
        if "\n" in part and not part.startswith((" ", "\b"))
    ]
    assert not broken
    assert "\n\n  parley train tickets.jsonl --base demo-base --name support-v1\n" in texts["parley train"]


@pytest.mark.long
def test_help_lists_the_commands_in_order(process: Run) -> None:
    helped = process("--help").stdout
    listed = re.findall(r"^\W+([a-z]+) ", helped.partition("Commands")[2], flags=re.MULTILINE)
    assert [name for name in listed if name in front_door.COMMAND_ORDER] == list(front_door.COMMAND_ORDER)


def one_line(run: subprocess.CompletedProcess[str]) -> str:
    """The only line on standard error of a command that failed."""
    assert run.returncode in (1, 2), run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    lines = run.stderr.strip().splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("parley: ")
    return lines[0]


@pytest.mark.long
def test_a_command_in_a_fresh_home_makes_the_database_and_a_failed_one_leaves_no_home(parley: Run, home: Path) -> None:
    assert "no model" in one_line(parley("models", "show", "nobody"))
    assert not home.exists()
    assert "is not running" in parley("status").stdout
    assert json.loads(parley("status", "--json").stdout)["running"] is False
    assert not home.exists()
    assert parley("models", "list").returncode == 0
    assert (home / "parley.db").exists()


def test_a_wrong_setting_is_one_line(parley: Run) -> None:
    assert "port" in one_line(parley("settings", PARLEY_PORT="http"))


@pytest.mark.long
def test_a_taken_port_is_one_line_and_leaves_no_home(process: Run, home: Path) -> None:
    import socket

    port, page_port = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        line = one_line(process("up", PARLEY_PORT=str(port), PARLEY_PAGE_PORT=str(page_port)))
    assert str(port) in line
    assert not home.exists()


@pytest.mark.long
def test_listening_wide_without_a_key_is_refused_in_one_line(process: Run) -> None:
    port, page_port = free_ports(2)
    line = one_line(process("up", PARLEY_HOST="0.0.0.0", PARLEY_PORT=str(port), PARLEY_PAGE_PORT=str(page_port)))
    assert "key" in line


@pytest.mark.long
def test_models_from_the_command_line(parley: Run, weights: str) -> None:
    upgraded = [parley("db", "upgrade", "--make-owner-key").stdout for _ in range(2)]
    assert ["pk-" in output for output in upgraded] == [True, False], "the owner's key is made and shown once"
    assert "No model" in parley("models", "list").stdout
    assert parley("models", "add", "llama", "--path", weights).returncode == 0
    assert parley("models", "alias", "support", "llama").returncode == 0
    listed = json.loads(parley("models", "list", "--json").stdout)
    assert [(spec["id"], spec["kind"], spec["path"]) for spec in listed] == [("llama", "base", weights)]
    assert "support" in parley("models", "list").stdout
    assert "support" in one_line(parley("models", "retire", "llama"))
    assert parley("models", "alias", "support").returncode == 0
    assert parley("models", "retire", "llama").returncode == 0
    assert json.loads(parley("models", "list", "--json").stdout) == []


@pytest.mark.usefixtures("database")
def test_a_hosted_model_keeps_the_name_of_its_key_and_never_the_key(parley: Run) -> None:
    added = parley("models", "add", "gpt", "--base-url", "https://api.openai.com/v1", "--credential", "OPENAI_API_KEY")
    assert added.returncode == 0, added.stderr
    (spec,) = json.loads(parley("models", "list", "--json", OPENAI_API_KEY="sk-hush").stdout)
    upstream = spec["upstream"]
    assert (upstream["base_url"], upstream["model"]) == ("https://api.openai.com/v1", "gpt")
    assert upstream["credential"] == "OPENAI_API_KEY"
    wrong = parley("models", "add", "x", "--base-url", "https://x/v1", "--credential", "sk-proj-123")
    one_line(wrong)


@pytest.mark.parametrize(
    "arguments",
    [
        ["models", "add", "x"],
        ["models", "add", "x", "--path", "/nowhere/at/all"],
        ["models", "add", "a b", "--path", "hub/id"],
        ["models", "add", "x", "--path", "hub/id", "--base-url", "http://x"],
        ["models", "alias", "x", "nobody"],
        ["models", "retire", "nobody"],
        ["keys", "create", "me", "--role", "boss"],
        ["keys", "revoke", "nobody"],
        ["keys", "create"],
        ["models", "list", "--nonsense"],
        ["nonsense"],
        ["train", "/nowhere.jsonl", "--base", "demo-base", "--name", "x"],
        ["judge", "nobody", "--models", "a,b"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("database")
def test_a_mistake_is_one_line(parley: Run, arguments: list[str]) -> None:
    one_line(parley(*arguments))


def test_keys_from_the_command_line(parley: Run, database: Database) -> None:
    from models.keys import check_key

    secret = parley("keys", "create", "page", "--role", "owner").stdout.strip()
    assert secret.startswith("pk-")
    key = check_key(database, secret)
    assert key is not None
    listed = parley("keys", "list").stdout
    assert key.id in listed
    assert secret not in listed
    assert parley("keys", "revoke", key.id).returncode == 0
    assert check_key(database, secret) is None


def test_settings_are_shown_with_secrets_masked(parley: Run) -> None:
    shown = parley("settings", OPENAI_API_KEY="sk-hush", PARLEY_PORT="8123").stdout
    assert "8123" in shown
    assert "hush" not in shown


def test_a_home_keeps_the_demo_prompts_that_it_has(database: Database) -> None:
    old = {"messages": [{"role": "user", "content": "My ne is Marco"}], "category": "hello"}
    add_prompts(database, [old], source="demo")
    front_door._add_demo_prompts(database)
    assert [prompt.question for prompt in prompts(database)] == ["My ne is Marco"]


def test_the_demo_opens_the_vote_with_its_models_once(settings: Settings, database: Database) -> None:
    home = Home(settings, database, Registry(database))
    names = ("demo-base", "support-concise", "support-friendly")
    for name in (*names, "mine"):
        upstream = {"base_url": "http://127.0.0.1:9/v1", "model": name}
        home.registry.register(parse_spec(id=name, kind="hosted", upstream=upstream))
    front_door._open_to_votes(home, names)
    campaign = load_campaign(database, "open")
    assert (campaign.state, campaign.models) == ("open", names)
    remove_model(database, "open", "demo-base")
    front_door._open_to_votes(home, names)
    assert load_campaign(database, "open").models == ("support-concise", "support-friendly")
    front_door._open_to_votes(home, ("mine", "not here"), join=True)  # the models of `parley demo --base`
    assert load_campaign(database, "open").models == ("support-concise", "support-friendly", "mine")


def test_a_home_with_an_older_base_gets_no_model_with_tools(tmp_path: Path) -> None:
    """The base of an earlier release has another template and no token for calls."""
    new = [model.id for model in models.demo.fitting([])]
    assert "support-tools" in new
    base = tmp_path / "base"
    base.mkdir()
    spec = parse_spec(id="demo-base", kind="base", path=str(base))
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert [model.id for model in models.demo.fitting([spec])] == [name for name in new if name != "support-tools"]
    shutil.copy(models.demo.FOLDER / "base" / "chat_template.jinja", base)
    assert [model.id for model in models.demo.fitting([spec])] == new


def test_only_lines_of_progress_are_reported() -> None:
    lines: list[str] = []
    text = "demo: Training 2 styles\nUserWarning: old\ndemo: step 1\nde"
    assert report_progress(text, lines.append) == "de"
    assert lines == ["Training 2 styles", "step 1"]


def test_a_new_home_gets_the_demo_prompts_once(database: Database) -> None:
    front_door._add_demo_prompts(database)
    number = len(prompts(database))
    front_door._add_demo_prompts(database)
    assert len(prompts(database)) == number > 100
