"""Evals, runs and items in both databases, without a gateway: the rows include answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import parley
from evals.eval_runs.evals import PageRange, create_eval, list_evals, update_eval
from evals.eval_runs.items import list_items
from evals.eval_runs.requests import EvalCreate, EvalUpdate, RunCreate
from evals.eval_runs.runs import create_run, delete_eval, get_run, list_runs
from evals.tasks.evaluations import list_evaluations, load_evaluation
from models.database import Database
from models.http.repeated_requests import Caller
from models.jobs.jobs import claim
from models.jobs.worker import run_job
from models.settings.settings import load_settings
from tests.evals.recordings.recording import ScriptedServer, stored_prompts
from tests.evals.recordings.recording import request as recording_request
from tests.evals.recordings.recording import run as record


def test_pages_and_runs_on_either_database(any_database: Database, home: Path) -> None:
    settings = load_settings(home=home)
    criterion = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{item.a}}", "reference": "1"}
    config: dict[str, Any] = {"type": "custom", "item_schema": {"type": "object"}}
    request = EvalCreate.model_validate(
        {"name": "é", "data_source_config": config, "testing_criteria": [criterion, criterion]}
    )
    evals = [create_eval(any_database, request, Caller())["id"] for _ in range(3)]
    assert create_eval(any_database, request, Caller(repeated=True))["id"] == evals[-1]
    update_eval(any_database, evals[0], EvalUpdate(name="last"))

    def walk(order_by: str, first: PageRange) -> list[str]:
        found: list[str] = []
        more = True
        while more:
            page = list_evals(any_database, replace(first, after=found[-1] if found else None), order_by)
            found, more = found + [row["id"] for row in page.data], page.has_more
        return found

    assert walk("created_at", PageRange(limit=1)) == evals
    assert walk("updated_at", PageRange(limit=2, descending=True)) == [evals[0], evals[2], evals[1]]

    rows = [{"item": {"a": str(n % 3), "text": "lone \\ud800 \u2028"}} for n in range(7)]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": rows}}
    run = create_run(settings, any_database, evals[1], RunCreate.model_validate({"data_source": source}), Caller("k"))
    assert [row["id"] for row in list_runs(settings, any_database, evals[1], PageRange(), "queued").data] == [run["id"]]
    job = claim(any_database, "worker")
    assert job is not None
    run_job(settings, any_database, parley.JOB_HANDLERS, job, "worker")
    done = get_run(settings, any_database, evals[1], run["id"])
    assert (done["status"], done["error"]) == ("completed", None)
    assert done["result_counts"] == {"total": 7, "errored": 0, "failed": 5, "passed": 2}
    assert [row["passed"] for row in done["per_testing_criteria_results"]] == [2, 2]
    page = list_items(any_database, evals[1], run["id"], PageRange(limit=1, descending=True), "pass")
    assert ([row["datasource_item_id"] for row in page.data], page.has_more) == ([4], True)
    page = list_items(any_database, evals[1], run["id"], PageRange(page.data[-1]["id"], 5, True), "pass")
    assert ([row["datasource_item_id"] for row in page.data], page.has_more) == ([1], False)
    delete_eval(settings, any_database, evals[1])
    assert walk("created_at", PageRange()) == [evals[0], evals[2]]


def test_a_recorded_model_answers_a_responses_run_without_a_gateway(database: Database, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home")
    (prompt,) = stored_prompts(database, "one")
    record(database, ScriptedServer(), recording_request((prompt,)), tmp_path)
    criterion = {"type": "string_check", "name": "answers", "operation": "like", "input": "{{sample.output_text}}",
                 "reference": "answer"}  # fmt: skip
    made = EvalCreate.model_validate(
        {"data_source_config": {"type": "logs", "metadata": {"a": "b"}}, "testing_criteria": [criterion]}
    )
    eval_id = create_eval(database, made, Caller())["id"]
    rows = [{"item": {"talk": [{"role": "user", "content": text}]}} for text in ("one", "never recorded")]
    source = {
        "type": "responses",
        "model": "old@recorded",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {"type": "item_reference", "item_reference": "item.talk"},
        "sampling_params": {"text": {"format": {"type": "text"}}, "seed": 1},
    }
    run = create_run(settings, database, eval_id, RunCreate.model_validate({"data_source": source}), Caller())
    job = claim(database, "worker")
    assert job is not None
    run_job(settings, database, parley.JOB_HANDLERS, job, "worker")
    done = get_run(settings, database, eval_id, run["id"])
    assert done["result_counts"] == {"total": 2, "errored": 1, "failed": 0, "passed": 1}
    (entry,) = list_evaluations(database)
    assert (entry.models, entry.failed) == (("old@recorded",), 1)
    assert any("recorded on" in note for note in load_evaluation(database, entry.id).notes)
