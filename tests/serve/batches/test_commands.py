"""`parley batch`: list, show and cancel."""

import json

import pytest
from typer.testing import CliRunner

from models.errors import Conflict, NotFound
from parley import build
from tests.serve.batches.deployment import BatchDeployment, row


def test_batches_are_listed_shown_and_cancelled(deployment: BatchDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(deployment.settings.home))
    monkeypatch.setenv("COLUMNS", "140")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(build(), ["batch", *arguments])
        if result.exception is not None:
            raise result.exception
        return result.output

    assert run("list") == "There are no batches.\n"
    done = deployment.run([row("a"), row("b", "refuse")], metadata={"team": "shop [/red]"})
    failed, waiting = deployment.run(["{"]), deployment.create([row("a")])
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == [waiting.id, failed.id, done.id]
    assert "1 of 2, 1 failed" in lines[3]
    shown = run("show", done.id)
    assert "10 input and" in shown
    assert str(done.output_file_id) in shown
    assert "team=shop [/red]" in shown  # a client's text is no markup
    assert "line 1: This line is not valid JSON. (invalid_json_line)" in run("show", failed.id)
    assert json.loads(run("show", done.id, "--json"))["metadata"] == {"team": "shop [/red]"}
    assert run("cancel", waiting.id) == f"{waiting.id} is cancelled.\n"
    with pytest.raises(Conflict):
        run("cancel", done.id)
    with pytest.raises(NotFound):
        run("show", "batch_nobody")
