"""Evals exported to promptfoo and Inspect: the files, and the way back."""

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from evals.exchange.imports import import_evals
from models.errors import Invalid, NotFound, ParleyError
from parley import build
from tests.evals.eval_runs.house import evals_house
from tests.evals.eval_runs.test_evals_api import completions, make_eval
from tests.evals.exchange.configs import import_config, write_config

OUTPUT = "{{sample.output_text}}"
ASKED = [{"role": "user", "content": "Grade {{sample.output_text}} of {{item.notifications}}"}]
CHECKS: list[dict[str, Any]] = [
    {"type": "string_check", "name": "says", "operation": "ilike", "input": OUTPUT, "reference": "{{item.expected}}"},
    {"type": "string_check", "name": "is not", "operation": "ne", "input": OUTPUT, "reference": "{{item.expected}}!"},
    {"type": "text_similarity", "name": "close", "evaluation_metric": "gleu", "pass_threshold": 0.4, "input": OUTPUT,
     "reference": "{{item.notifications}}"},
    {"type": "score_model", "name": "score", "model": "judge", "input": ASKED, "range": [1.0, 5.0],
     "pass_threshold": 4.0},
    {"type": "label_model", "name": "label", "model": "judge", "input": ASKED, "labels": ["good", "bad"],
     "passing_labels": ["good"]},
    {"type": "python", "name": "short one", "pass_threshold": 0.05,
     "source": "def grade(sample, item):\n    return len(sample['output_text']) / 100\n"},
]  # fmt: skip
LOST = {"type": "string_check", "name": "odd", "operation": "eq", "input": f"<{OUTPUT}>", "reference": "x"}
ROWS = [
    {"notifications": 'say "7"\nto {{them}} ü', "expected": "7"},
    {"notifications": "{% if x %}", "expected": "-"},
]


@pytest.mark.long
def test_a_run_goes_to_promptfoo_and_comes_back_the_same(
    settings: Any, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    with evals_house(settings, database) as house:
        found = make_eval(house.client, [*CHECKS, LOST])
        source = completions(ROWS, sampling_params={"temperature": 0.5, "max_completion_tokens": 30})
        run = house.client.evals.runs.create(found.id, data_source=source)
        folder = tmp_path / "out"
        done = CliRunner().invoke(build(), ["eval", "export", run.id, str(folder), "--to", "promptfoo", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["lost"] == ["odd (string_check): its input is not {{sample.output_text}}."]
        assert "- odd (string_check)" in (folder / "README.md").read_text()
        config = yaml.safe_load((folder / "promptfooconfig.yaml").read_text())
        assert config["providers"] == [
            {
                "id": "openai:chat:one",
                "config": {"apiBaseUrl": house.gateway.base_url, "temperature": 0.5, "max_tokens": 30},
            }
        ]
        kinds = [(each["type"], each["metric"]) for each in config["defaultTest"]["assert"]]
        assert kinds == [
            ("icontains", "says"), ("not-equals", "is not"), ("gleu", "close"), ("llm-rubric", "score"),
            ("llm-rubric", "label"), ("python", "short one"),
        ]  # fmt: skip
        (made,), lost = import_config(settings, database, folder)
        assert made.criteria == CHECKS
        assert made.items == ROWS
        assert [plan["data_source"]["model"] for plan in made.plans] == ["one"]
        assert made.plans[0]["data_source"]["sampling_params"] == {"temperature": 0.5, "max_completion_tokens": 30}
        back = made.plans[0]["data_source"]["input_messages"]["template"]
        assert [message["content"] for message in back] == ["Summarise push notifications.", "{{item.notifications}}"]
        assert lost == ["provider openai:chat:one: apiBaseUrl not imported: register the model (`parley models add`)."]
        again = CliRunner().invoke(build(), ["eval", "export", run.id, str(folder), "--to", "promptfoo"])
        assert isinstance(again.exception, Invalid)
        assert "is not empty: name a new folder." in str(again.exception)


@pytest.mark.long
def test_planned_runs_start_and_their_eval_comes_back_the_same(
    settings: Any, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    monkeypatch.setenv("PARLEY_UNSANDBOXED_GRADERS", "true")
    shared = {"type": "icontains", "value": "{{country}}"}
    tests = [{"vars": {"country": "Peru", "tags": ["x"]}, "assert": [{"type": "python", "value": "len(output) > 3"}]},
             {"vars": {"country": "Cuba", "tags": []}, "assert": [{"type": "regex", "value": "^A"}]}]  # fmt: skip
    options = {"disableVarExpansion": True}
    config = {"prompts": ["About {{country}}"], "providers": ["openai:one", "openai:gone"], "tests": tests,
              "defaultTest": {"assert": [shared], "options": options}, "description": "Countries"}  # fmt: skip
    with evals_house(settings, database) as house:
        made = import_evals(settings, database, write_config(tmp_path / "c", config)).evals[0]
        failed = CliRunner().invoke(build(), ["eval", "start", made.id])
        assert isinstance(failed.exception, NotFound)
        assert "gone" in str(failed.exception)
        started = CliRunner().invoke(build(), ["eval", "start", made.id, "--models", "one", "--json"])
        (run,) = json.loads(started.output)
        assert house.work().status == "succeeded"
        done = house.client.evals.runs.retrieve(run["id"], eval_id=made.id)
        assert (done.result_counts.total, done.result_counts.errored, done.result_counts.passed) == (2, 0, 1)
        verified = CliRunner().invoke(build(), ["eval", "verify", run["id"], "--json"])
        assert (json.loads(verified.output)["compared"], verified.exit_code) == (6, 0)
        exported = CliRunner().invoke(build(), ["eval", "export", made.id, str(tmp_path / "back"), "--to", "promptfoo"])
        assert exported.exit_code == 0, exported.output
        (first,), _ = import_config(settings, database, tmp_path / "c")
        (second,), _ = import_config(settings, database, tmp_path / "back")
        assert (second.items, second.criteria) == (first.items, first.criteria)


@pytest.mark.long
def test_a_task_for_inspect(settings: Any, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    with evals_house(settings, database) as house:
        found = make_eval(house.client, CHECKS)
        run = house.client.evals.runs.create(found.id, data_source=completions(ROWS, sampling_params={"seed": 3}))
        folder = tmp_path / "out"
        done = CliRunner().invoke(build(), ["eval", "export", run.id, str(folder), "--to", "inspect", "--json"])
        assert done.exit_code == 0, done.output
        result = json.loads(done.output)
        assert result["lost"] == ["close (text_similarity): Inspect has no such scorer."]
        assert result["files"] == ["graders/short_one.py", "rows.jsonl", "task.py"]
        tree = ast.parse((folder / "task.py").read_text())
        (task,) = [
            each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == "push_notifications"
        ]
        assert ast.unparse(task.decorator_list[0]) == "task"
        calls = [
            each.func.id for each in ast.walk(task) if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
        ]
        scorers = {"includes", "string_check", "score_model", "label_model", "python_grader"}
        assert scorers <= set(calls)
        assert "GenerateConfig(seed=3)" in ast.unparse(task)
        defined = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert scorers - {"includes"} <= defined
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().split("\n") if line]
        assert rows[0]["input"] == [
            {"role": "system", "content": "Summarise push notifications."},
            {"role": "user", "content": ROWS[0]["notifications"]},
        ]
        assert [(row["target"], row["metadata"]) for row in rows] == [("7", ROWS[0]), ("-", ROWS[1])]
        _run_inspect(folder, house.gateway.base_url)


def _run_inspect(folder: Path, base_url: str) -> None:
    """Runs the task where Inspect is installed: PARLEY_TEST_INSPECT is its command."""
    command = os.environ.get("PARLEY_TEST_INSPECT")
    if command is None:
        return
    environment = os.environ | {"PARLEY_BASE_URL": base_url, "PARLEY_API_KEY": "x", "INSPECT_DISPLAY": "plain"}
    models = ["--model", "openai-api/parley/one", "--model-role", "grader=openai-api/parley/judge"]
    subprocess.run(
        [command, "eval", "task.py", *models, "--log-dir", "logs", "--log-format", "json"],
        cwd=folder, env=environment, check=True, timeout=120,
    )  # fmt: skip
    (log,) = (folder / "logs").glob("*.json")
    done = json.loads(log.read_text())
    assert (done["status"], done["results"]["completed_samples"]) == ("success", len(ROWS))


def test_wrong_requests_are_one_line(
    settings: Any, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    for arguments, problem in (
        (["eval", "export", "eval_gone", "x", "--to", "promptfoo"], "There is no eval or run 'eval_gone'"),
        (["eval", "export", "eval_gone", "x", "--to", "deepeval"], "use promptfoo or inspect"),
        (["eval", "start", "eval_gone"], "There is no eval 'eval_gone'"),
    ):
        done = CliRunner().invoke(build(), arguments)
        assert isinstance(done.exception, ParleyError)
        assert problem in str(done.exception)
