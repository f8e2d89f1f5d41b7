"""Evals exported through the SDK, imported again: by the command, in both layouts, with their verdicts verified."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from evals.tasks.evaluations import list_evaluations
from parley import build
from tests.evals.eval_runs.house import EvalsHouse
from tests.evals.eval_runs.test_evals_api import completions, make_eval

CHECKS: list[dict[str, Any]] = [
    {"type": "string_check", "name": "says", "operation": "like", "input": "{{sample.output_text}}",
     "reference": "{{item.expected}}"},
    {"type": "text_similarity", "name": "close", "evaluation_metric": "gleu", "pass_threshold": 0.4,
     "input": "{{sample.choices[0].message.content}}", "reference": "{{item.notifications}}"},
    {"type": "score_model", "name": "score", "model": "judge", "input": [{"role": "user", "content": "Grade it."}]},
]  # fmt: skip


def parley(*arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(build(), [*arguments, "--json"])
    return done.exit_code, json.loads(done.output)


@pytest.mark.long
@pytest.mark.parametrize("layout", ["dumps", "nested"])
def test_exported_evals_are_imported(
    house: EvalsHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(house.settings.home))
    client = house.client
    found = make_eval(client, CHECKS)
    rows = [{"notifications": f"number {n}", "expected": str(n % 2)} for n in range(4)]
    run = client.evals.runs.create(found.id, data_source=completions(rows), metadata={"v": "1"})
    assert house.work().status == "succeeded"
    run = client.evals.runs.retrieve(run.id, eval_id=found.id)
    items = list(client.evals.runs.output_items.list(run.id, eval_id=found.id))
    folder = tmp_path / "openai-evals-export"
    (folder / "files").mkdir(parents=True)
    if layout == "dumps":
        (folder / "evals.json").write_text(json.dumps({"object": "list", "data": [found.model_dump()]}))
        (folder / "runs.jsonl").write_text(json.dumps(run.model_dump()) + "\n")
        (folder / "items.jsonl").write_text("".join(json.dumps(item.model_dump()) + "\n" for item in items))
    else:
        runs = [{"run": run.to_dict(), "output_items": [item.to_dict() for item in items]}]
        (folder / f"{found.id}.json").write_text(json.dumps({"eval": found.to_dict(), "rows": rows, "runs": runs}))
        (folder / "files" / "file-abc.jsonl").write_text(json.dumps({"item": rows[0]}))
        (folder / "notes.json").write_text("not JSON")
    client.evals.delete(found.id)

    code, done = parley("import", "openai-evals", str(folder))
    assert code == 0
    kinds = {"evals": 1, "runs": 1, "output items": 4} | ({"files": 1} if layout == "nested" else {})
    assert done["imported"] == kinds
    assert done["lost"] == ([] if layout == "dumps" else ["notes.json: it is not JSON."])
    again = client.evals.runs.retrieve(run.id, eval_id=found.id)
    assert again.result_counts == run.result_counts
    assert (again.status, again.metadata, again.model) == ("completed", {"v": "1"}, "one")
    assert {each.run_model_name: each.invocation_count for each in again.per_model_usage} == {"one": 4, "judge": 4}
    back = list(client.evals.runs.output_items.list(run.id, eval_id=found.id))
    assert [(item.status, item.sample.output[0].content) for item in back] == [
        (item.status, item.sample.output[0].content) for item in items
    ]
    (entry,) = list_evaluations(house.database)
    assert (entry.models, entry.scorers) == (("one",), ("says", "close", "score"))

    assert parley("eval", "verify", run.id) == (
        0,
        {
            "compared": 8,
            "equal": 8,
            "deviations": [],
            "left_out": ["score (score_model): a model's verdict is not reproducible"],
        },
    )
    assert parley("import", "openai-evals", str(folder))[1]["lost"][-2:] == [
        f"{found.id}: it exists already.", f"{run.id}: it exists already.",
    ]  # fmt: skip
    new = client.evals.runs.create(found.id, data_source=completions(rows[:1]))
    assert house.work().status == "succeeded"
    assert client.evals.runs.retrieve(new.id, eval_id=found.id).result_counts.total == 1


@pytest.mark.long
def test_a_verdict_that_differs_is_listed(house: EvalsHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(house.settings.home))
    found = make_eval(house.client, CHECKS[:1]).to_dict() | {"id": "eval_old"}
    found["testing_criteria"][0].pop("id")  # as older dumps have them
    item = {"object": "eval.run.output_item", "id": "outputitem_1", "run_id": "evalrun_old", "status": "pass",
            "datasource_item": {"expected": "x"}, "datasource_item_id": 0,
            "sample": {"output": [{"role": "assistant", "content": "no"}], "input": []},
            "results": [{"name": "says-068d", "passed": True, "score": 1.0},
                        {"name": "gone", "passed": True}]}  # fmt: skip
    run = {"object": "eval.run", "id": "evalrun_old", "eval_id": "eval_old", "status": "completed", "model": "gpt-4o",
           "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}}  # fmt: skip
    lone = run | {"id": "evalrun_lone", "eval_id": "eval_none"}
    broken = {"object": "eval", "id": "eval_broken"}
    unfinished = run | {"id": "evalrun_half", "status": "in_progress"}
    file = tmp_path / "dump.json"
    file.write_text(json.dumps([found, run, item, lone, broken, unfinished]))
    assert parley("import", "openai-evals", str(file))[1]["lost"] == [
        "eval_broken: it does not have the API's format (KeyError: 'data_source_config').",
        "evalrun_lone: its eval eval_none is missing.",
        "evalrun_half: it has no output items, so it does not become an evaluation.",
    ]
    assert house.client.evals.runs.retrieve("evalrun_half", eval_id="eval_old").status == "canceled"
    code, verified = parley("eval", "verify", "evalrun_old")
    assert (code, verified["compared"], verified["equal"]) == (1, 1, 0)
    assert verified["deviations"][0]["criterion"] == "says"
    other = item | {"id": "outputitem_2", "datasource_item_id": 1, "run_id": "evalrun_68a-b_c"}
    two = [run | {"id": "evalrun_68a-b_c"}, other, other | {"id": "outputitem_3", "status": "fail"}]
    file.write_text(json.dumps(two))
    assert parley("import", "openai-evals", str(file))[1]["imported"] == {"runs": 1, "output items": 2}
    items = list(house.client.evals.runs.output_items.list("evalrun_68a-b_c", eval_id="eval_old", limit=1))
    assert [each.status for each in items] == ["pass", "fail"]
    with pytest.raises(openai.NotFoundError):
        house.client.evals.runs.retrieve("evalrun_lone", eval_id="eval_none")


@pytest.mark.long
def test_a_run_that_cannot_become_an_evaluation_is_reported_and_stays(
    house: EvalsHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(house.settings.home))
    judge = CHECKS[2] | {"id": "score-1", "range": ["low", "high"]}
    config = {"type": "custom", "schema": {"type": "object"}}
    found = {"object": "eval", "id": "eval_r", "data_source_config": config, "testing_criteria": [judge]}
    run = {"object": "eval.run", "id": "evalrun_r", "eval_id": "eval_r", "status": "completed", "model": "gpt-4o",
           "data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "file-1"}}}  # fmt: skip
    item = {"object": "eval.run.output_item", "id": "outputitem_r", "run_id": "evalrun_r", "status": "pass",
            "datasource_item": {}, "datasource_item_id": 0, "results": []}  # fmt: skip
    file = tmp_path / "dump.json"
    file.write_text(json.dumps([found, run, item]))
    done = parley("import", "openai-evals", str(file))[1]
    assert done["imported"] == {"evals": 1, "runs": 1, "output items": 1}
    assert done["runs"] == ["evalrun_r"]
    (line,) = done["lost"]
    assert line.startswith("evalrun_r: it is imported, but it does not become an evaluation (ValueError: could not")
    assert house.client.evals.runs.retrieve("evalrun_r", eval_id="eval_r").status == "completed"
    assert list_evaluations(house.database) == []
