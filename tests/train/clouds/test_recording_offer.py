"""A rescue records the old model first: held-out prompts, training prompts where wanted, and only with consent."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.recordings.recording_store import list_recordings
from models.database import Database
from models.errors import Unavailable
from models.settings.settings import Settings
from parley import _record_answers
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import serving
from train.clouds.recording_offer import RecordingChoice, RecordingOffer, record_old

HELD_OUT = [{"messages": [{"role": "user", "content": f"held {i}"}], "held_out": True} for i in range(2)]
TAUGHT = [{"messages": [{"role": "user", "content": "taught"}], "held_out": False}]


def plan(answers: bool = True) -> Any:
    return SimpleNamespace(answers=answers, old="old", prompts=HELD_OUT, training_prompts=TAUGHT)


def test_held_out_prompts_come_first_and_a_failure_stops_nothing(settings: Settings, database: Database) -> None:
    offers: list[RecordingOffer] = []

    def record(offer: RecordingOffer) -> str | None:
        offers.append(offer)
        if offer.training:
            raise Unavailable("The server cannot be reached.")
        return "2 of 2 prompts recorded, 3 samples"

    choice = RecordingChoice(max_usd=1.0, training=True)
    assert record_old(plan(), settings, database, choice, record) == [
        "old, held-out questions: 2 of 2 prompts recorded, 3 samples",
        "The answers of old to training questions were not recorded: The server cannot be reached.",
    ]
    assert [(offer.training, offer.max_usd, len(offer.prompts)) for offer in offers] == [
        (False, 1.0, 2),
        (True, 1.0, 1),
    ]
    (line,) = record_old(plan(), settings, database, RecordingChoice(), lambda offer: None)
    assert line.endswith("Before it is switched off, run: parley record old")
    assert record_old(plan(answers=False), settings, database, choice, record) == []


@pytest.mark.long
def test_nothing_is_asked_without_consent_and_everything_with_it(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    costs: list[str] = []

    def consent(cost: str) -> bool:
        costs.append(cost)
        return len(costs) == 2

    with AnsweringServer() as upstream, serving(settings, database) as gateway:
        gateway.hosted("old", base_url=upstream.address, model="ft:gpt-4o-mini-2024-07-18:acme::A1")
        here = settings.model_copy(update={"port": gateway.port})
        held_out = RecordingOffer(here, database, "old", HELD_OUT, False, None, consent)
        assert _record_answers(held_out) is None
        assert upstream.asked == []
        assert _record_answers(held_out) == "2 of 2 prompts recorded, 3 samples"
        assert len(upstream.asked) == 6
        assert _record_answers(RecordingOffer(here, database, "old", TAUGHT, True, 0.5, consent))
        assert len(upstream.asked) == 9
    assert len(costs) == 2
    assert "6 requests" in costs[0]
    assert "at most $" in costs[0]
    by_purpose = {recording.training: recording for recording in list_recordings(database)}
    assert {training: entry.prompts for training, entry in by_purpose.items()} == {False: 2, True: 1}
