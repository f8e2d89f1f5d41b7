"""Prices: the table is complete and dated, epochs follow OpenAI's rule, and every doubt is a warning."""

from datetime import date

import pytest

from models.errors import Invalid, NotFound
from train.planning.pricing import find_price, openai_epochs, parse_user_price, price_table, quote, warnings
from train.planning.token_counts import Counts, Length

DAY = date(2026, 11, 22)


def _counts(examples: int = 200, tokens: int = 500, learnt: int = 100) -> Counts:
    return Counts("m", "tiktoken", "counted", tuple(Length(n, tokens, learnt) for n in range(1, examples + 1)))


def test_every_entry_is_dated_and_names_its_source() -> None:
    table = price_table()
    assert {price.provider for price in table} == {"openai", "together"}
    for price in table:
        assert price.source.startswith("https://")
        assert price.training
        assert all(rate > 0 for rate in (*price.training.values(), *price.training_dpo.values()))
        assert price.as_of < DAY
    names = [name for price in table for name in price.models]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("examples", "epochs"),
    [(1, 25), (4, 25), (10, 10), (33, 3), (34, 3), (100, 3), (8_333, 3), (8_334, 2), (20_000, 1), (90_000, 1)],
)
def test_openai_s_automatic_epochs(examples: int, epochs: int) -> None:
    chosen = openai_epochs(examples)
    assert chosen.number == epochs
    assert chosen.rule


def test_a_price_is_tokens_times_epochs_times_rate() -> None:
    quoted = quote(_counts(), find_price("gpt-4o-mini"), today=DAY)
    assert (quoted.epochs, quoted.billed_tokens) == (3, 300_000)
    assert quoted.usd == pytest.approx(0.9)
    # 400 input tokens at 0.30 and 100 output tokens at 1.20 per million, a thousand times
    assert quoted.per_thousand_answers == pytest.approx(1000 * (400 * 0.3 + 100 * 1.2) / 1e6)
    assert quote(_counts(), find_price("gpt-4o-mini"), epochs=1.5, today=DAY).usd == pytest.approx(0.45)


def test_what_is_past_the_training_context_is_not_billed() -> None:
    quoted = quote(_counts(examples=40, tokens=70_000), find_price("gpt-4o"), epochs=1, today=DAY)
    assert quoted.over_limit == 40
    assert quoted.over_context == "truncated"
    assert quoted.billed_tokens == 40 * 65_536


def test_together_sells_by_kind_and_by_method() -> None:
    price = find_price("Qwen/Qwen3-8B")
    counts = _counts(2_000)
    assert quote(counts, price, today=DAY).usd == pytest.approx(0.48)
    assert quote(counts, price, kind="full", today=DAY).usd == pytest.approx(0.54)
    assert quote(counts, price, method="dpo", today=DAY).usd == pytest.approx(1.2)
    assert quote(counts, price, today=DAY).per_thousand_answers is None
    with pytest.raises(Invalid, match="lora or full"):
        quote(counts, price, kind="qlora")


def test_a_fine_tune_costs_what_its_base_costs() -> None:
    assert find_price("ft:gpt-4.1-mini-2025-04-14:acme:support:X").model == "gpt-4.1-mini-2025-04-14"
    assert find_price("GPT-4o").provider == "openai"


def test_an_unknown_model_is_one_line_that_names_the_known() -> None:
    with pytest.raises(NotFound, match=r"openai: gpt-4\.1.*together: ") as raised:
        find_price("gpt-17")
    assert "\n" not in str(raised.value)
    with pytest.raises(NotFound, match="Providers are"):
        find_price("gpt-4o", "nobody")


def test_too_few_examples_and_odd_epochs_are_refused() -> None:
    with pytest.raises(Invalid, match="at least 10 examples"):
        quote(_counts(9), find_price("gpt-4o"))
    with pytest.raises(Invalid, match="epochs"):
        quote(_counts(), find_price("gpt-4o"), epochs=0)
    with pytest.raises(Invalid, match="no examples"):
        openai_epochs(0)


def test_old_prices_closing_providers_and_ending_models_are_warned_of() -> None:
    price = find_price("gpt-4.1")
    fresh = warnings(price, price.as_of)
    assert fresh == ()
    now = "\n".join(warnings(price, DAY))
    assert f"from {price.as_of}, {(DAY - price.as_of).days} days ago" in now
    assert "takes no new fine-tuning jobs from 2027-01-06 on, in 45 days" in now
    assert "switched off on 2027-01-14, in 53 days" in now
    assert "has taken no new fine-tuning jobs" in "\n".join(warnings(price, date(2027, 1, 7)))
    gone = "\n".join(warnings(find_price("gpt-4.1-nano"), DAY))
    assert "switched off on 2026-10-23" in gone
    assert find_price("gpt-4.1-nano").stopped(DAY)
    assert not price.stopped(DAY)


def test_a_users_price_replaces_the_table_s_and_is_fresh() -> None:
    table = find_price("gpt-4o-mini")
    price = parse_user_price("gpt-4o-mini=6/0.5/2", DAY)
    quoted = quote(_counts(), price, today=DAY)
    assert quoted.usd == pytest.approx(300_000 * 6 / 1e6)
    assert quoted.per_thousand_answers == pytest.approx(1000 * (400 * 0.5 + 100 * 2) / 1e6)
    assert (quoted.outdated, quoted.source, price.retires) == (False, "--price", table.retires)
    assert quote(_counts(), table, today=DAY).outdated
    training_only = parse_user_price("gpt-4o-mini=6", DAY)
    assert (training_only.input, training_only.output) == (table.input, table.output)
    assert f"The prices for use are the table's, of {table.as_of}." in training_only.notes
    together = parse_user_price("Qwen/Qwen3-8B=1", DAY)
    assert {
        quote(_counts(), together, kind=kind, method=method, today=DAY).rate
        for kind in ("lora", "full")
        for method in ("sft", "dpo")
    } == {1.0}  # type: ignore[arg-type]  # the methods' names


def test_a_users_price_of_a_model_that_is_not_in_the_table() -> None:
    quoted = quote(_counts(), parse_user_price("acme/model=x=2", DAY), today=DAY)
    assert (quoted.model, quoted.usd, quoted.epochs) == ("acme/model=x", pytest.approx(0.6), 3)
    assert "--epochs" in quoted.epochs_rule
    assert (quoted.per_thousand_answers, quoted.warnings) == (None, ())
    for wrong in ("gpt-4o", "gpt-4o=", "=3", "gpt-4o=three", "gpt-4o=1/2", "gpt-4o=-1", "gpt-4o=nan", "gpt-4o=inf"):
        with pytest.raises(Invalid, match="use MODEL=TRAINING or MODEL=TRAINING/INPUT/OUTPUT"):
            parse_user_price(wrong)


def test_a_quote_is_json() -> None:
    import json

    quoted = json.loads(json.dumps(quote(_counts(), find_price("gpt-4o"), today=DAY).to_json()))
    assert quoted["as_of"] == find_price("gpt-4o").as_of.isoformat()
    assert quoted["warnings"]
