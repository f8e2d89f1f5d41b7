"""A program of the cookbook's shape with each SDK: an eval, two runs by the worker, their items."""

from pathlib import Path

import pytest

from evals.tasks.evaluations import list_evaluations
from models.database import Database
from models.settings.settings import Settings
from tests.clients.programs import Server, run, run_text
from tests.evals.eval_runs.house import evals_house


@pytest.mark.long
def test_a_program_that_compares_two_prompts_runs_unchanged(sdk: str, settings: Settings, database: Database) -> None:
    with evals_house(settings, database) as house, house.working():
        server = Server(house.gateway.base_url, "no-key", chat="one", tunable="")
        met = run(sdk, "evals", server, "one", "judge")
    texts = ["Alice: lunch at one?", "Bank: your card was used", "Carol: the train is late"]
    counts = {"errored": 1, "failed": 0, "passed": 3, "total": 4}
    errors = [result.pop("errors") for result in met["results"]]
    assert met == {
        "created": ["queued", "queued"],
        "results": [
            {
                "name": name,
                "status": "completed",
                "counts": counts,
                "criteria": [[3, 0], [3, 0]],
                "outputs": [f"one says: {text}" for text in texts],
                "passed": [[True, True], [True, True], [True, True], []],
            }
            for name in ("short", "kind")
        ],
        "cancelled": "it has ended",
        "updated": "Summaries",
        "listed": True,
        "deleted": ["eval.deleted", True, True],
    }
    assert all("cannot: refuse" in each for (each,) in errors)


@pytest.mark.long
def test_the_programs_of_the_documentation_run(settings: Settings, database: Database) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "evals-api.md").read_text("utf-8")
    with evals_house(settings, database) as house, house.working():
        server = Server(house.gateway.base_url, "no-key", chat="one", tunable="")
        for language, mark in (("python", "```python\n"), ("node", "```js\n")):
            program = text.partition(mark)[2].partition("```")[0]
            assert len(program.splitlines()) <= 16
            program = program.replace("http://127.0.0.1:8000/v1", server.base_url).replace("demo-base", "one")
            printed = run_text(language, program, server)
            assert printed.startswith("completed"), printed
            assert "failed=1" in printed or "failed: 1" in printed
    (run, other) = list_evaluations(database)
    assert (run.task, run.models, run.scorers) == (other.task, other.models, other.scorers) == (
        "Capitals", ("one",), ("right",),
    )  # fmt: skip
