"""train/clouds/display.py: ids are printed as they are, whatever Rich would make of them."""

from datetime import UTC, datetime

import pytest

from models.terminal import console
from train.clouds.cloud import CloudEvent, CloudJob
from train.clouds.display import EventPrinter, jobs_table, show_offer
from train.clouds.offer import Offer

IDS = ("ft:gpt-4o-mini:acme:rocket:A1", "acme/[bold]x")


@pytest.mark.parametrize("name", IDS)
def test_ids_are_neither_emoji_nor_markup(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    now = datetime.now(UTC)
    console().print(
        jobs_table([CloudJob("ftjob-1", name, "succeeded", "succeeded", now, model=name)], [], {name: name})
    )
    show_offer(Offer("OpenAI", name, name, 10, 1, 0, (), None, (f"No price is known for {name}",), ()))
    EventPrinter()(CloudEvent("e", now, "info", f"{name} is ready"))
    shown = "".join(capsys.readouterr().out.split())
    assert shown.count(name) == 3 + 3 + 1
