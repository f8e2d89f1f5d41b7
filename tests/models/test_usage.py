"""Usage in the table: sums add up, can be queried by key, model and day, and have a cost."""

from datetime import date

import pytest

from models.database import Database
from models.keys import create_key, list_keys
from models.spec import ModelSpec, Upstream
from models.usage import NO_KEY, Slot, Sums, add_usage, cost, daily_totals, has_price, read_usage

MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)


@pytest.mark.long
def test_usage_adds_up(any_database: Database) -> None:
    create_key(any_database, name="shop", role="client")
    shop = list_keys(any_database)[0].id
    add_usage(any_database, {Slot(MONDAY, shop, "gpt"): Sums(1, 0, 10, 20, 0.5), Slot(MONDAY, NO_KEY, "own"): Sums(1)})
    add_usage(any_database, {Slot(MONDAY, shop, "gpt"): Sums(2, 1, 3, 4, 0.25), Slot(TUESDAY, shop, "own"): Sums(7)})
    usage = {(row.day, row.key, row.model): row.sums for row in read_usage(any_database)}
    assert usage == {
        (MONDAY, "", "own"): Sums(1),
        (MONDAY, "shop", "gpt"): Sums(3, 1, 13, 24, 0.75),
        (TUESDAY, "shop", "own"): Sums(7),
    }
    assert daily_totals(any_database, MONDAY)[shop].tokens == 37
    assert [row.sums.requests for row in read_usage(any_database, since=TUESDAY)] == [7]
    assert [row.model for row in read_usage(any_database, key_id=shop, model="gpt")] == ["gpt"]


def test_sums_are_larger_than_an_int_of_32_bits(any_database: Database) -> None:
    slot = Slot(MONDAY, "k", "m")
    for _ in range(2):
        add_usage(any_database, {slot: Sums(prompt_tokens=2**31)})
    assert daily_totals(any_database, MONDAY)["k"].prompt_tokens == 2**32


@pytest.mark.parametrize(
    ("read", "written", "known", "usd"), [(2.0, 8.0, True, 6.0), (0.0, 0.0, True, 0.0), (2.0, None, False, 2.0)]
)
def test_a_hosted_model_costs_what_its_prices_say(read, written, known, usd) -> None:
    upstream = Upstream(
        base_url="https://api.openai.com/v1", model="m", usd_per_million_input=read, usd_per_million_output=written
    )
    spec = ModelSpec(id="m", kind="hosted", upstream=upstream)
    assert has_price(spec) is known
    assert cost(spec, 1_000_000, 500_000) == pytest.approx(usd)


def test_a_model_that_runs_here_costs_nothing() -> None:
    spec = ModelSpec(id="m", kind="base", path="org/m")
    assert has_price(spec)
    assert cost(spec, 10**9, 10**9) == 0
