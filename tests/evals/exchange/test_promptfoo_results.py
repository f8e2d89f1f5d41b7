"""promptfoo's results as completed runs: shown, verified, and hostile files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from evals.api_tables import EvalItemRow, EvalRow, EvalRunRow
from evals.eval_runs.verification import verify_run
from evals.exchange.imports import Import, import_evals
from evals.tables import AnswerRow
from evals.tasks.evaluations import list_evaluations
from models.database import Database
from models.errors import Invalid
from models.settings.settings import Settings
from parley import build

CAPITALS = {"Norway": "Oslo", "France": "Paris"}


def verdict(passed: bool, assertion: Any, **more: Any) -> dict[str, Any]:
    return {"pass": passed, "score": float(passed), "reason": "", "assertion": assertion} | more


def result(country: str, output: Any, verdicts: list[Any], **more: Any) -> dict[str, Any]:
    """A result in the form of version 3."""
    passed = all(each["pass"] for each in verdicts)
    prompt = json.dumps([{"role": "user", "content": f"Capital of {country}?"}])
    return {
        "cost": 0.001, "gradingResult": {"pass": passed, "score": 1, "reason": "", "componentResults": verdicts},
        "id": f"r-{country}", "latencyMs": 250, "prompt": {"raw": prompt, "label": "prompts.json: ask"}, "promptIdx": 0,
        "provider": {"id": "openai:chat:gpt-4o-mini", "label": ""}, "success": passed, "testIdx": 0, "failureReason": 0,
        "response": {"output": output, "tokenUsage": {"prompt": 9, "completion": 3}, "finishReason": "stop"},
        "vars": {"country": country, "capital": CAPITALS[country]}, "namedScores": {},
    } | more  # fmt: skip


def results() -> list[dict[str, Any]]:
    shared = {"type": "icontains", "value": "{{capital}}", "metric": "names it"}
    return [
        result("Norway", "It is oslo.", [
            verdict(True, shared), verdict(True, {"type": "regex", "value": "^It"}),
            verdict(True, {"type": "javascript", "value": "output.length > 3"}),
        ]),
        result("France", "Lyon", [
            verdict(False, shared), verdict(False, {"type": "regex", "value": "^Par"}),
            verdict(True, {"type": "llm-rubric", "value": "Is polite"}, score=0.75),
        ]),
    ]  # fmt: skip


@pytest.fixture
def write(tmp_path: Path, settings: Settings, database: Database) -> Callable[[Any], Import]:
    """Writes a file of results, and imports it."""

    def write_and_import(value: Any) -> Import:
        file = tmp_path / "results.json"
        file.write_text(value if isinstance(value, str) else json.dumps(value))
        return import_evals(settings, database, file)

    return write_and_import


Write = Callable[[Any], Import]


def in_version(version: int) -> Any:
    inner: dict[str, Any] = {"version": version, "timestamp": "2026-06-03T12:00:00Z", "results": results(), "stats": {}}
    if version == 2:
        for each in inner["results"]:
            each["prompt"]["display"] = each["prompt"].pop("label")
            del each["failureReason"], each["promptIdx"], each["testIdx"]
        inner["table"] = {"head": {"prompts": [], "vars": []}, "body": []}
    return {"evalId": f"eval-{version}", "results": inner, "config": {"description": "Capitals"}, "shareableUrl": None}


@pytest.mark.parametrize("version", [2, 3, 4])
def test_results_become_a_completed_run_with_its_verdicts(
    settings: Settings, database: Database, write: Write, version: int
) -> None:
    done = write(in_version(version))
    assert dict(done.objects.imported) == {"evals": 1, "runs": 1, "output items": 2}
    assert done.objects.lost == ["results.json: the costs of 2 answers have no place in an eval."]
    (run_id,) = done.objects.runs
    (entry,) = list_evaluations(database)
    assert (entry.task, entry.models) == ("Capitals", ("gpt-4o-mini",))
    with database.read() as session:
        run = session.scalars(select(EvalRunRow)).one()
        items = session.scalars(select(EvalItemRow).order_by(EvalItemRow.place)).all()
        answers = session.scalars(select(AnswerRow).order_by(AnswerRow.text)).all()
        criteria = session.scalars(select(EvalRow)).one().content["testing_criteria"]
        assert run.counts["items"] == {"total": 2, "passed": 1, "failed": 1, "errored": 0}
        assert run.counts["usage"] == {"gpt-4o-mini": [2, 18, 6]}
        assert [(item.status, [(r["passed"], r["score"]) for r in item.results]) for item in items] == [
            ("pass", [(True, 1.0)] * 3),
            ("fail", [(False, 0.0), (False, 0.0), (True, 0.75)]),
        ]
        assert [(answer.text, answer.seconds, answer.completion_tokens) for answer in answers] == [
            ("It is oslo.", 0.25, 3),
            ("Lyon", 0.25, 3),
        ]
    assert criteria[0]["reference"] == "{{item.capital}}"
    verification = verify_run(database, run_id, unsandboxed=True)
    assert (verification.compared, verification.equal, verification.deviations) == (4, 4, [])
    assert verification.left_out == [
        "javascript (python): JavaScript is not run here: write a python assertion",
        "llm-rubric (python): it names no judge: set its provider, or import with --judge MODEL",
    ]
    again = write(in_version(version))
    assert [line.split(": ", 1)[1] for line in again.objects.lost[1:]] == ["it exists already."] * 2


def test_a_verdict_that_differs_is_listed_and_the_status_is_1(
    settings: Settings, database: Database, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = in_version(3)
    raw["results"]["results"][0]["response"]["output"] = "Bergen"
    (run_id,) = write(raw).objects.runs
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    monkeypatch.setenv("PARLEY_UNSANDBOXED_GRADERS", "true")
    done = CliRunner().invoke(build(), ["eval", "verify", run_id])
    assert done.exit_code == 1
    assert "2 of 4 verdicts match." in done.output
    assert "names it: stored pass (1), computed fail (0)" in done.output.replace("\n", " ")
    shown = CliRunner().invoke(build(), ["eval", "show"])
    assert shown.exit_code == 0
    assert "names it" in shown.output


def test_errors_sets_and_rendered_values(settings: Settings, database: Database, write: Write) -> None:
    raw = results()
    part = verdict(True, {"type": "contains", "value": "Oslo"})
    nested = {"pass": True, "score": 1, "assertion": {"type": "assert-set", "assert": []}, "componentResults": [part]}
    filtered = {"type": "contains", "value": "{{country | upper}}"}
    raw = [
        result(
            "Norway", "Oslo NORWAY", [nested, verdict(True, filtered, metadata={"renderedAssertionValue": "NORWAY"})]
        ),
        result("France", None, [], success=False, error="429 Too Many Requests", failureReason=2),
        result("France", {"city": "Paris"}, [verdict(True, {"type": "is-json"}), {"pass": True, "score": 1}]),
    ]
    done = write(raw)
    assert "results.json: result" not in done.objects.lost
    assert done.objects.lost[0] == (
        "results.json: test 3: a verdict is not imported, because it does not say of which assertion it is."
    )
    with database.read() as session:
        items = session.scalars(select(EvalItemRow).order_by(EvalItemRow.place)).all()
        assert [(item.status, item.error) for item in items] == [
            ("pass", None), ("error", "429 Too Many Requests"), ("pass", None),
        ]  # fmt: skip
        assert [len(item.results) for item in items] == [2, 0, 1]
    verification = verify_run(database, done.objects.runs[0], unsandboxed=True)
    assert (verification.compared, verification.equal, verification.left_out) == (3, 3, [])


def test_each_provider_and_prompt_is_a_run(settings: Settings, database: Database, write: Write) -> None:
    other = {"provider": "anthropic:messages:claude-x"}
    second = {"promptIdx": 1, "prompt": {"raw": "Short: {{country}}", "label": "short"}}
    raw = [each | more for more in ({}, other, second) for each in results()]
    assert write(raw).objects.imported["runs"] == 3
    with database.read() as session:
        runs = session.scalars(select(EvalRunRow).order_by(EvalRunRow.number)).all()
        assert [(run.name, run.model) for run in runs] == [
            ("openai:chat:gpt-4o-mini, prompts.json: ask", "gpt-4o-mini"),
            ("anthropic:messages:claude-x, prompts.json: ask", "claude-x"),
            ("openai:chat:gpt-4o-mini, short", "gpt-4o-mini"),
        ]


ONE = results()[:1]


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("{", "results.json is not valid JSON."),
        ('{"results": {"results": []}}', "has no results"),
        ('{"results": {"version": 3, "results": [NaN]}}', ""),
        ('{"results": ' + "[" * 3000 + "]" * 3000 + "}", ""),
        ([5, *ONE], "test 1: the result is not imported"),
        ([*ONE, 5], "test 2: the result is not imported"),
        ([ONE[0] | {"vars": [1]}], "the result is not imported"),
        ([ONE[0] | {"gradingResult": {"componentResults": [{"assertion": {"type": 5}}, 7]}}], "a verdict is not"),
        ([ONE[0] | {"response": [], "provider": None, "prompt": None, "latencyMs": "x", "cost": None}], None),
        ([ONE[0] | {"response": {"output": "x" * 100_000, "tokenUsage": {"prompt": -5, "completion": 1e400}}}], ""),
        (ONE * 3, None),
    ],
)  # fmt: skip
def test_hostile_results_are_lines(
    settings: Settings, database: Database, write: Write, raw: Any, problem: str | None
) -> None:
    """An empty problem: nothing can be imported. None: everything can."""
    try:
        lost = write(raw).objects.lost
    except Invalid as error:
        lost = [str(error)]
    lines = [line for line in lost if "the costs of" not in line]
    assert bool(lines) == (problem is not None), lines
    assert all("\n" not in line and (problem or "") in line for line in lines)
