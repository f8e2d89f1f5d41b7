"""Evals and runs through the SDK, and the same runs in `parley eval`."""

import json
from typing import Any

import openai
import pytest

from evals.eval_runs import run_job, runs
from evals.tasks.evaluations import load_evaluation
from evals.tasks.summaries import overview
from models.errors import NotFound
from models.jobs.jobs import cancel, get_job
from tests.evals.eval_runs.conftest import Check
from tests.evals.eval_runs.house import EvalsHouse

ITEM_SCHEMA = {
    "type": "object",
    "properties": {"notifications": {"type": "string"}, "expected": {"type": "string"}},
    "required": ["notifications"],
}
NOTIFICATIONS = ["Alice: lunch at one?", "Bank: your card was used", "refuse Carol: the train is late"]
PROMPT = "Summarise push notifications."
JUDGED = "Summary: {{sample.output_text}}\nOf: {{item.notifications}}"


def criteria() -> list[dict[str, Any]]:
    """One grader of each kind that an eval takes."""
    asked = [{"role": "developer", "content": "Grade the summary."}, {"role": "user", "content": JUDGED}]
    return [
        {"type": "string_check", "name": "mentions", "operation": "ilike", "input": "{{sample.output_text}}",
         "reference": "{{item.expected}}"},
        {"type": "text_similarity", "name": "close", "input": "{{ sample.output_text }}",
         "reference": "{{item.notifications}}", "evaluation_metric": "rouge_l", "pass_threshold": 0.5},
        {"type": "label_model", "name": "label", "model": "judge", "input": asked, "labels": ["good", "bad"],
         "passing_labels": ["good"]},
        {"type": "score_model", "name": "score", "model": "judge", "input": asked, "range": [0, 1],
         "pass_threshold": 0.8},
        {"type": "python", "name": "short", "source": "def grade(sample, item):\n    return len(item) / 2\n",
         "pass_threshold": 0.9},
    ]  # fmt: skip


def make_eval(client: openai.OpenAI, criteria: list[Any], **options: Any) -> Any:
    config: Any = {"type": "custom", "item_schema": ITEM_SCHEMA, "include_sample_schema": True}
    return client.evals.create(
        name="Push notifications", data_source_config=config, testing_criteria=criteria, **options
    )


def completions(rows: list[dict[str, Any]] | str, model: str = "one", **options: Any) -> Any:
    """A run's data source: rows, or the id of a file."""
    source: Any = {"type": "file_id", "id": rows}
    if not isinstance(rows, str):
        source = {"type": "file_content", "content": [{"item": row} for row in rows]}
    template = [
        {"role": "developer", "content": PROMPT},
        {"role": "user", "content": {"type": "input_text", "text": "{{item.notifications}}"}},
    ]
    messages = {"type": "template", "template": template}
    return {"type": "completions", "model": model, "source": source, "input_messages": messages} | options


@pytest.mark.long
def test_a_program_of_the_cookbook_runs_and_parley_shows_its_run(house: EvalsHouse, checked: Check) -> None:
    client = house.client
    found = checked(make_eval(client, criteria(), metadata={"team": "phones"}))
    assert found.id.startswith("eval_")
    assert found.data_source_config.schema_["properties"]["item"] == ITEM_SCHEMA
    assert [each.type for each in found.testing_criteria] == [each["type"] for each in criteria()]
    rows = [{"notifications": text, "expected": text[:5]} for text in NOTIFICATIONS]
    sampling = {"temperature": 0, "max_completion_tokens": 50, "seed": 3}
    run = checked(
        client.evals.runs.create(
            found.id, name="v1", data_source=completions(rows, sampling_params=sampling), metadata={"prompt": "v1"}
        )
    )
    assert (run.status, run.model, run.error) == ("queued", "one", None)
    job = house.work()
    assert job.status == "succeeded", job.error
    run = checked(client.evals.runs.retrieve(run.id, eval_id=found.id))
    assert run.status == "completed"
    assert run.result_counts.to_dict() == {"total": 3, "errored": 1, "failed": 2, "passed": 0}
    by_criterion = {
        each.testing_criteria.rpartition("-")[0][:5]: (each.passed, each.failed)
        for each in run.per_testing_criteria_results
    }
    assert set(by_criterion.values()) == {(2, 0), (0, 2)}
    usage = {each.run_model_name: each.invocation_count for each in run.per_model_usage}
    assert usage == {"one": 2, "judge": 4}
    items = [checked(item) for item in client.evals.runs.output_items.list(run.id, eval_id=found.id, limit=2)]
    assert [item.status for item in items] == ["fail", "fail", "error"]
    assert [item.datasource_item["notifications"] for item in items] == NOTIFICATIONS
    scores = {result.name.rpartition("-")[0][:4]: (result.score, result.passed) for result in items[0].results}
    assert [scores[key] for key in ("ment", "labe", "scor", "shor")] == [(1, True), (1, True), (0.75, False), (1, True)]
    sample = items[0].sample
    assert [message.role for message in sample.input] == ["system", "user"]
    assert sample.output[0].content == "one says: Alice: lunch at one?"
    assert (sample.seed, sample.temperature, sample.max_completion_tokens) == (3, 0.0, 50)
    assert "cannot: refuse" in items[2].sample.error.message
    assert (
        checked(
            client.evals.runs.output_items.retrieve(items[1].id, eval_id=found.id, run_id=run.id)
        ).datasource_item_id
        == 1
    )
    failed = list(client.evals.runs.output_items.list(run.id, eval_id=found.id, status="fail", order="desc"))
    assert [item.datasource_item_id for item in failed] == [1, 0]

    evaluation = load_evaluation(house.database, job.result["evaluation"])
    assert (evaluation.task, evaluation.models) == ("Push notifications", ("one",))
    means = overview(evaluation)
    mentions = means.of("one", "mentions")
    assert (mentions.mean, mentions.n, mentions.missing) == (1.0, 2, 1)
    assert mentions.low is not None
    assert means.of("one", "score · passed").mean == 0.0


def test_rows_with_answers_need_no_model_and_lists_go_on(house: EvalsHouse, checked: Check) -> None:
    client = house.client
    check = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_text}}",
             "reference": "{{item.expected}}"}  # fmt: skip
    found = make_eval(client, [check])
    lines = [
        {"item": {"notifications": "a", "expected": str(n % 2)}, "sample": {"output_text": "1", "model": "old"}}
        for n in range(5)
    ]
    file = client.files.create(file=("rows.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="evals")
    source: Any = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    made = [client.evals.runs.create(found.id, name=str(n), data_source=source) for n in range(3)]
    assert house.work().status == "succeeded"
    assert cancel(house.database, house.database_job(made[1].id)).status == "cancelled"
    statuses = [checked(run).status for run in client.evals.runs.list(found.id, limit=1)]
    assert statuses == ["completed", "canceled", "queued"]
    assert [run.id for run in client.evals.runs.list(found.id, status="queued")] == [made[2].id]
    done = client.evals.runs.retrieve(made[0].id, eval_id=found.id)
    assert (done.result_counts.passed, done.result_counts.failed, done.per_model_usage) == (2, 3, [])
    (first, *_) = client.evals.runs.output_items.list(done.id, eval_id=found.id)
    assert (first.sample.model, first.sample.output[0].content) == ("old", "1")

    cancelled = checked(client.evals.runs.cancel(made[2].id, eval_id=found.id))
    assert cancelled.status == "canceled"
    assert get_job(house.database, house.database_job(made[2].id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="has ended"):
        client.post(f"/evals/{found.id}/runs/{made[2].id}", cast_to=object)  # as SDKs up to 3.20 cancel
    other = client.evals.create(
        name="logs", data_source_config={"type": "logs", "metadata": {"usecase": "x"}}, testing_criteria=[check]
    )
    assert [each.id for each in client.evals.list(limit=1, order="desc")] == [other.id, found.id]
    renamed = checked(client.evals.update(found.id, name="renamed", metadata={"a": "b"}))
    assert (renamed.name, renamed.metadata) == ("renamed", {"a": "b"})
    assert [each.name for each in client.evals.list(order_by="updated_at")] == ["logs", "renamed"]
    evaluation = get_job(house.database, house.database_job(made[0].id)).result
    assert evaluation is not None
    assert client.evals.runs.delete(made[0].id, eval_id=found.id).deleted
    with pytest.raises(NotFound):
        load_evaluation(house.database, evaluation["evaluation"])
    assert checked(client.evals.delete(found.id)).eval_id == found.id
    with pytest.raises(openai.NotFoundError, match="There is no eval"):
        client.evals.retrieve(found.id)


def test_a_killed_run_continues_without_repeating_requests(house: EvalsHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_job, "CHUNK", 4)
    monkeypatch.setattr(runs, "MAX_ROWS", 5)
    check = {"type": "string_check", "name": "same", "operation": "like", "input": "{{sample.output_text}}",
             "reference": "{{item.notifications}}"}  # fmt: skip
    found = make_eval(house.client, [check])
    rows = [{"notifications": f"number {n}"} for n in range(10)]
    run = house.client.evals.runs.create(found.id, data_source=completions(rows))
    graded = run_job._grades
    calls = []

    async def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return await graded(*arguments)

    monkeypatch.setattr(run_job, "_grades", killed)
    with pytest.raises(KeyboardInterrupt):
        house.work()
    half = house.client.evals.runs.retrieve(run.id, eval_id=found.id)
    assert (half.status, half.result_counts.total) == ("in_progress", 4)
    house.release(run.id)
    assert house.work().status == "succeeded"
    done = house.client.evals.runs.retrieve(run.id, eval_id=found.id)
    assert (done.status, done.result_counts.passed, done.per_model_usage[0].invocation_count) == ("completed", 10, 10)
    assert len(house.upstream.asked) == len(set(house.upstream.asked)) == 10
    # Many rows are stored as a file of the run, which is deleted with it.
    assert done.data_source.source.type == "file_id"
    assert house.client.files.retrieve(done.data_source.source.id).purpose == "evals"
    house.client.evals.runs.delete(run.id, eval_id=found.id)
    with pytest.raises(openai.NotFoundError):
        house.client.files.retrieve(done.data_source.source.id)
    # The second run samples new answers.
    house.client.evals.runs.create(found.id, data_source=completions(rows[:2]))
    assert house.work().status == "succeeded"
    assert len(house.upstream.asked) == 12


@pytest.mark.long
def test_graders_are_checked_and_run_alone(house: EvalsHouse, checked: Check) -> None:
    graders = house.client.fine_tuning.alpha.graders
    for grader in criteria():
        if grader["type"] != "label_model":  # not among the SDK's types for this call
            assert checked(graders.validate(grader=grader)).grader.name == grader["name"]
    answer = '{"city": "Oslo"}'
    same: Any = {"type": "string_check", "name": "same", "operation": "eq", "input": "{{sample.output_json.city}}",
                 "reference": "{{item.city}}"}  # fmt: skip
    found = checked(graders.run(grader=same, model_sample=answer, item={"city": "Oslo"}))
    assert (found.reward, found.metadata.name, found.metadata.scores) == (1.0, "same", {"same": 1.0})
    assert not any(value for value in found.metadata.errors.to_dict().values())
    assert graders.run(grader=same, model_sample="no JSON", item={}).metadata.errors.sample_parse_error
    assert graders.run(grader=same, model_sample=answer, item={}).metadata.errors.invalid_variable_error
    score = criteria()[3] | {"input": [{"role": "user", "content": "Grade {{sample.output_text}}"}]}
    judged = checked(graders.run(grader=score, model_sample=answer))
    assert (judged.reward, judged.metadata.sampled_model_name) == (0.75, "judge")
    assert judged.api_model_grader_token_usage_per_model["judge"] == {
        "prompt_tokens": 10, "completion_tokens": judged.metadata.token_usage - 10,
        "total_tokens": judged.metadata.token_usage,
    }  # fmt: skip
    asked = house.upstream.bodies[-1]
    assert asked["messages"][0]["role"] == "system"
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["reasoning", "result"]
    both: Any = {"type": "multi", "name": "both", "graders": {"a": same, "b": score}, "calculate_output": "0.5*a + b/2"}
    found = graders.run(grader=both, model_sample=answer, item={"city": "Oslo"})
    assert (found.reward, found.sub_rewards) == (0.875, {"a": 1.0, "b": 0.75})
    broken: Any = {"type": "python", "name": "p", "source": "def grade(sample, item):\n    return 1 / 0"}
    errors = graders.run(grader=broken, model_sample=answer).metadata.errors
    assert errors.python_grader_runtime_error
    assert errors.python_grader_runtime_error_details == "ZeroDivisionError: division by zero"
    with pytest.raises(openai.BadRequestError, match="'c' is not one of its graders"):
        graders.validate(grader=both | {"calculate_output": "c"})
    with pytest.raises(openai.NotFoundError, match="nobody"):
        graders.run(grader=score | {"model": "nobody"}, model_sample="x")


def test_what_cannot_run_is_refused_or_fails_with_a_reason(house: EvalsHouse) -> None:
    client = house.client
    check: dict[str, Any] = {"type": "string_check", "name": "same", "operation": "eq", "reference": "x",
                             "input": "{{sample.output_text}}"}  # fmt: skip
    wrong: list[tuple[str, list[dict[str, Any]]]] = [
        ("testing_criteria.0.input", [check | {"input": "{{secret.x}}"}]),
        ("testing_criteria.0.operation", [check | {"operation": "almost"}]),
        ("testing_criteria.0.source", [{"type": "python", "name": "p", "source": "def grade(:"}]),
        ("testing_criteria", [check | {"id": "same"}] * 2),
    ]
    for param, criteria in wrong:
        with pytest.raises(openai.BadRequestError) as caught:
            make_eval(client, criteria)
        assert caught.value.param == param
    found = make_eval(client, [check])
    row = {"notifications": "x"}
    stored: Any = completions([row]) | {"source": {"type": "stored_completions", "metadata": {"a": "b"}}}
    refused = [
        (openai.NotFoundError, completions([row], model="nobody")),
        (openai.NotFoundError, completions("file-none")),
        (openai.BadRequestError, stored),
        (openai.BadRequestError, {"type": "completions", "source": {"type": "file_content", "content": []}}),
    ]
    for kind, data_source in refused:
        with pytest.raises(kind):
            client.evals.runs.create(found.id, data_source=data_source)
    run = client.evals.runs.create(found.id, data_source=completions([{"other": 1}]))
    assert house.work().status == "failed"
    run = client.evals.runs.retrieve(run.id, eval_id=found.id)
    assert run.status == "failed"
    assert "Item 1 does not match the eval's item_schema" in run.error.message
    messages = {"type": "item_reference", "item_reference": "item.talk"}
    talks = [{"notifications": "x", "talk": [{"role": "user", "content": "hello"}]}, {"notifications": "no talk"}]
    run = client.evals.runs.create(found.id, data_source=completions(talks, input_messages=messages))
    assert house.work().status == "succeeded"
    items = list(client.evals.runs.output_items.list(run.id, eval_id=found.id))
    assert [item.status for item in items] == ["fail", "error"]
    assert "item.talk has no value" in items[1].sample.error.message
