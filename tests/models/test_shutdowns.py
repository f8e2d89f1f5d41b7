"""models/registry/shutdowns.py: which models shut down when, and how urgent the warning is."""

import io
from datetime import date

import pytest
from rich.console import Console

from models.registry.shutdowns import (
    countdown,
    find_shutdown_date,
    fine_tuning_cutoff,
    print_shutdowns,
    rescue_description,
    upcoming_shutdowns,
)
from models.spec import ModelSpec, Upstream

GOES = date(2027, 1, 14)


@pytest.mark.parametrize(
    ("base", "goes"),
    [
        ("gpt-4o-mini-2024-07-18", True),
        ("gpt-4o", True),
        ("gpt-4.1-2025-04-14", True),
        ("gpt-4.1-mini", True),
        ("gpt-4.1-nano-2025-04-14", False),
        ("gpt-4o-audio-preview", False),
        ("gpt-4", False),
        ("davinci-002", False),
        ("ft:gpt-4o-mini-2024-07-18:acme:support:A1", True),
        ("ft:gpt-5-nano:acme::C3", False),
    ],
)
def test_families_that_are_switched_off(base: str, goes: bool) -> None:
    assert find_shutdown_date(base) == (GOES if goes else None)


def test_an_announced_date_takes_precedence_over_the_table() -> None:
    assert find_shutdown_date("gpt-4o", "2028-05-01T00:00:00Z") == date(2028, 5, 1)
    assert find_shutdown_date("gpt-4o", "soon") == GOES
    assert fine_tuning_cutoff("openai") == date(2027, 1, 6)
    assert fine_tuning_cutoff("together") is None


@pytest.mark.parametrize(
    ("today", "level", "text"),
    [
        (date(2026, 10, 15), "far", "off in 91 days (2027-01-14)"),
        (date(2026, 10, 16), "near", "off in 90 days (2027-01-14)"),
        (date(2026, 12, 31), "urgent", "off in 14 days (2027-01-14)"),
        (date(2027, 1, 13), "urgent", "off in 1 day (2027-01-14)"),
        (GOES, "urgent", "off today (2027-01-14)"),
        (date(2027, 1, 16), "urgent", "off since 2027-01-14 (2 days ago)"),
    ],
)
def test_the_countdown(today: date, level: str, text: str) -> None:
    shutdown = countdown("x", GOES, today)
    assert (shutdown.level, shutdown.text) == (level, text)


def test_upcoming_shutdowns() -> None:
    upstream = Upstream(base_url="https://example.test/v1", model="m")
    days = {"late": date(2027, 1, 14), "first": date(2026, 11, 1), "far": date(2029, 1, 1), "never": None}
    specs = [ModelSpec(id=name, kind="hosted", upstream=upstream, shutdown_date=day) for name, day in days.items()]
    assert [shutdown.model for shutdown in upcoming_shutdowns(specs, date(2026, 11, 22))] == ["first", "late"]


def test_what_is_printed() -> None:
    def upstream(model: str) -> Upstream:
        return Upstream(base_url="https://example.test/v1", model=model)

    gone = ModelSpec(id="tuned", kind="hosted", upstream=upstream("ft:gpt-4o:o:s:1"), shutdown_date=GOES)
    plain = ModelSpec(id="plain", kind="hosted", upstream=upstream("other"), shutdown_date=date(2026, 11, 25))
    out = io.StringIO()
    print_shutdowns([gone, plain], Console(file=out, width=60), date(2026, 11, 22))
    assert out.getvalue().splitlines() == [
        "plain is off in 3 days (2026-11-25)",
        "tuned is off in 53 days (2027-01-14): rescue it with `parley rescue ft:gpt-4o:o:s:1`",
    ]
    rescued = ModelSpec(id="s-rescued", kind="merged", path="hub/id", description=rescue_description("ft:gpt-4o:o:s:1"))
    out = io.StringIO()
    print_shutdowns([gone, rescued], Console(file=out, width=60), date(2026, 11, 22))
    assert out.getvalue() == "tuned is off in 53 days (2027-01-14): s-rescued can replace it\n"
