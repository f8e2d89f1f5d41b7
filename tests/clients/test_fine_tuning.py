"""Fine-tuning with each SDK, from upload to a chat with the result: here, and with the address changed back.

The program names the models `gpt-4o-mini-2024-07-18` and `gpt-4o` at both: here a setting says what they stand for.
"""

from pathlib import Path

import pytest

from tests.clients.conftest import QUESTION
from tests.clients.programs import Server, run

pytestmark = [pytest.mark.engine, pytest.mark.training]


def test_a_fine_tuning_program_runs_unchanged(sdk: str, server: Server, training_file: Path) -> None:
    met = run(sdk, "fine_tune", server, server.tunable, training_file, QUESTION, timeout_s=300)
    assert met["created"] == "validating_files"
    assert set(met["seen"]) <= {"validating_files", "queued", "running"}
    base, _, suffix, number = met["model"].removeprefix("ft:").split(":")
    assert (base, suffix) == (server.tunable, "word-of-the-day")
    assert number
    assert met["retrieved"] == met["model"]
    assert met["answer"] == met["streamed"]
    assert "lighthouse" in met["answer"]
    assert met["answer before"].strip()
    assert "lighthouse" not in met["answer before"]
    assert met["verdict"].strip()
    assert met["checkpoint's answer"].strip()
    assert met["trained tokens"] > 0
    assert (met["epochs"], met["seed"], met["mine"], met["deleted"]) == (6, 7, True, True)
    assert met["results"] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert len(met["events"]) > 3, "more than one page of them"
    assert any("created" in event.lower() or "succe" in event.lower() for event in met["events"])
    assert all({"step", "train_loss"} <= set(data) for data in met["metrics"])
    assert met["metrics"]
    steps = [step for step, _ in met["checkpoints"]]
    assert steps == sorted(steps, reverse=True)
    assert all(loss >= 0 for _, loss in met["checkpoints"])


@pytest.mark.parametrize("sdk", ["openai-3", "node"])  # an older SDK's requests are the same
def test_a_program_that_changes_its_mind_runs_unchanged(sdk: str, server: Server, training_file: Path) -> None:
    met = run(sdk, "cancel", server, server.tunable, training_file, timeout_s=180)
    assert met["epochs"] == 50
    assert met["statuses"] == ["queued", "cancelled", "cancelled"]
    assert met["no model"]
    assert any("paused" in event.lower() for event in met["events"])
    assert any("cancel" in event.lower() for event in met["events"])
    assert met["caught"] == {"no such file": "BadRequestError", "no such model": "BadRequestError"}
