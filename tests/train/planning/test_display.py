"""train/planning/display.py: ids are printed unchanged, without Rich's markup or emoji."""

from datetime import date

import pytest

from models.terminal import console
from train.planning.display import show_counts, show_quotes
from train.planning.pricing import find_price, quote
from train.planning.token_counts import Counts, Length


@pytest.mark.parametrize("name", ["ft:gpt-4o-mini:acme:rocket:A1", "acme/[bold]x"])
def test_ids_are_neither_emoji_nor_markup(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    counts = Counts(name, "estimate", f"an estimate for {name}", tuple(Length(line, 10, 5) for line in range(1, 21)))
    show_counts(console(), counts)
    quoted = quote(counts, find_price("gpt-4o-mini"), today=date(2026, 1, 1))
    show_quotes(console(), [quoted], [f"{name} has no price"])
    shown = "".join(capsys.readouterr().out.split())
    assert shown.count(name) == 4
