"""docs/distillation.md: its program and commands are run as they are printed. Stand-ins play the models, and the
training's command is only parsed.
"""

import re
import shlex
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import parley
from evals.campaigns.campaign_prompts import campaign_prompts
from models.completions.stored_completions import StoredCompletions
from models.database import Database
from models.demo import PROMPTS
from models.settings.settings import Settings
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import Serving, serving
from tests.stack import ROOT

PAGE = (ROOT / "docs" / "distillation.md").read_text("utf-8")
MODELS = ("support-friendly", "support-distilled", "demo-base")


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line)[1:] for block in blocks for line in block.strip().splitlines()]


def run(command: list[str]) -> str:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(parley.build(), command)
    assert result.exit_code == 0, (command, result.output, result.exception)
    return result.output


def store_answers(gateway: Serving, database: Database) -> int:
    """Runs the page's program, and returns how many answers are stored then."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(program.replace("http://127.0.0.1:8000/v1", gateway.base_url), {})
    deadline = time.monotonic() + 30
    while (stored := StoredCompletions(database).count()) < 60:
        assert time.monotonic() < deadline, f"{stored} answers are stored"
        time.sleep(0.05)
    return stored


@pytest.mark.long
def test_the_page_works_as_printed(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    monkeypatch.chdir(tmp_path)
    with AnsweringServer() as server, serving(settings, database) as gateway:
        gateway.hosted(*MODELS, base_url=server.address)
        monkeypatch.setenv("PARLEY_PORT", str(gateway.port))
        assert store_answers(gateway, database) == 60
        run(["prompts", "add", str(PROMPTS)])
        printed: dict[str, str] = {}
        for command in commands():
            if command[0] == "train":
                train = typer.main.get_command(parley.build()).commands["train"]  # type: ignore[attr-defined] -- a group
                assert train.make_context("train", command[1:]).params["name"] == "support-distilled"
            else:
                printed[" ".join(command[:2])] = run(command)
    assert "60 examples, 0 left out" in printed["data check"]
    assert all(model in printed["eval run"] for model in MODELS)
    assert len((tmp_path / "answers.jsonl").read_text("utf-8").splitlines()) == 60
    assert len(campaign_prompts(database, "distilled")) == 20
