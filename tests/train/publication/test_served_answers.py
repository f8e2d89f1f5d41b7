"""The last check of a training sends requests to the served model, also while its engine restarts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import serving
from train.publication.served_answers import request_answers


@pytest.mark.long
def test_the_check_waits_until_the_engine_has_started(settings: Settings, database: Database, tmp_path: Path) -> None:
    questions: list[Any] = [SimpleNamespace(messages=({"role": "user", "content": f"say {n}"},)) for n in range(3)]
    impatient = settings.model_copy(update={"queue_wait_s": 0.2, "engine_start_timeout_s": 5.0})
    lines: list[str] = []
    with AnsweringServer() as upstream, serving(impatient, database) as gateway:
        here = impatient.model_copy(update={"port": gateway.port})
        gateway.engine("tuned", tmp_path / "weights", None)

        def report(line: str) -> None:
            lines.append(line)
            gateway.publish("tuned", upstream.address.removesuffix("/v1"))

        answers = request_answers(here, "tuned", questions, report)
        assert answers.texts == ("tuned says: say 0", "tuned says: say 1", "tuned says: say 2")
        assert lines == ["Waiting for tuned: its engine is starting"]
        gateway.publish("tuned", None, state="failed")
        assert request_answers(here, "tuned", questions).reason == "its engine failed to start"
