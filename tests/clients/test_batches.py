"""A program of the cookbook's shape with each SDK: a batch from upload to results, a cancelled and a broken one."""

import json
from pathlib import Path

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.clients.programs import Server, run, run_text
from tests.serve.batches.deployment import batch_deployment


@pytest.mark.long
def test_a_program_that_sorts_tickets_runs_unchanged(sdk: str, settings: Settings, database: Database) -> None:
    with batch_deployment(settings, database) as deployment, deployment.working():
        met = run(sdk, "batches", Server(deployment.gateway.base_url, "no-key", chat="one", tunable=""), "one")
    answered = {0: "Where is my parcel?", 1: "I want my money back.", 3: "Do you ship to Norway?"}
    assert met == {
        "created": "validating",
        "status": "completed",
        "counts": {"total": 4, "completed": 3, "failed": 1},
        "results": {f"ticket-{number}": f"one says: {text}" for number, text in answered.items()},
        "errors": [["ticket-2", 400]],
        "metadata": {"description": "nightly sorting"},
        "cancelled": True,
        "cancelled again": "it has ended",
        "broken": [["invalid_json_line", 1]],
        "listed": [True, True, True],
    }


@pytest.mark.long
def test_the_programs_of_the_documentation_run(settings: Settings, database: Database) -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "batches.md").read_text("utf-8")
    with batch_deployment(settings, database) as deployment, deployment.working():
        server = Server(deployment.gateway.base_url, "no-key", chat="one", tunable="")
        for language, mark in (("python", "```python\n"), ("node", "```js\n")):
            program = text.partition(mark)[2].partition("```")[0]
            assert len(program.splitlines()) <= 14
            program = program.replace("http://127.0.0.1:8000/v1", server.base_url).replace("demo-base", "one")
            printed = run_text(language, program, server).splitlines()
            assert printed[0].startswith("completed"), printed
            lines = [json.loads(line) for line in printed if line.startswith("{")]
            answers = [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]
            assert answers == ["one says: Name a colour.", "one says: Name a fruit."]
