"""train/hyperparameters.py: every "auto" becomes a number by a documented rule."""

from typing import Any

import pytest

from models.errors import Invalid
from train.hyperparameters import Facts, Hyperparameters, resolve


def test_every_auto_gets_a_number_and_a_reason() -> None:
    resolved = resolve(Hyperparameters(), Facts(4_062, 256, 4_096))
    values = resolved.values
    assert (values.epochs, values.rank, values.alpha, values.batch_size) == (3, 32, 32, 16)
    assert values.learning_rate == pytest.approx(2.5e-3)
    assert set(resolved.reasons) == {
        "epochs", "rank", "alpha", "learning_rate", "batch_size", "max_length", "packing", "precision",
        "checkpointing", "validate_every",
    }  # fmt: skip


def test_what_is_given_stays() -> None:
    resolved = resolve(Hyperparameters(rank=4, epochs=0.5), Facts(30, 8_192, 131_072))
    assert (resolved.values.rank, resolved.values.epochs, resolved.values.batch_size) == (4, 0.5, 2)
    assert "rank" not in resolved.reasons
    assert resolved.values.max_length == 4_096


def rate(method: Any = "sft", **values: Any) -> float:
    return resolve(Hyperparameters(**values), Facts(4_062, 256, 4_096), method).values.learning_rate


def test_the_rate_goes_with_what_learns() -> None:
    """Full tuning uses a tenth of an adapter's rate, DPO a twentieth, rsLoRA with its larger steps a √rank-th."""
    assert rate(tune="full") == pytest.approx(rate() / 10, rel=0.02)
    assert rate("dpo") == pytest.approx(rate() / 20, rel=0.05)
    assert rate("dpo", tune="full") == pytest.approx(rate() / 200, rel=0.05)
    assert rate(rslora=True, rank=64) == pytest.approx(rate() / 8, rel=0.02)
    assert rate(tune="qlora") == rate()


def test_rules_without_effect_are_not_reported() -> None:
    full = resolve(Hyperparameters(tune="full"), Facts(100, 256, 4_096))
    assert not {"rank", "alpha", "beta"} & set(full.reasons)
    dpo = resolve(Hyperparameters(), Facts(100, 256, 4_096), "dpo")
    assert (dpo.values.beta, dpo.values.epochs, dpo.values.method) == (0.1, 3, "dpo")
    assert {"beta", "rank"} <= set(dpo.reasons)


@pytest.mark.parametrize(
    ("device", "precision", "packing"),
    [
        ({"device": "cpu"}, "fp32", "packed"),
        ({"device": "cuda", "bf16": True}, "bf16", "length"),
        ({"device": "cuda", "bf16": True, "flash": True}, "bf16", "packed"),
        ({"device": "cuda"}, "fp16", "length"),
    ],
)
def test_the_device_decides_the_format_and_the_packing(device: dict[str, Any], precision: str, packing: str) -> None:
    resolved = resolve(Hyperparameters(), Facts(100, 256, 4_096, **device))
    assert (resolved.values.precision, resolved.values.packing) == (precision, packing)
    assert resolved.reasons["precision"].startswith(precision)
    assert resolve(Hyperparameters(), Facts(100, 256, 4_096, **device), "dpo").values.packing == "length"
    if device["device"] == "cuda":  # flash attention takes 16 bits only
        assert resolve(Hyperparameters(tune="full"), Facts(100, 256, 4_096, **device)).values.packing == "length"


def test_a_large_base_is_checkpointed_and_an_early_stop_looks_more_often() -> None:
    large = resolve(Hyperparameters(), Facts(100, 4_096, 4_096, parameters=7_000_000_000))
    assert large.values.checkpointing is True
    assert "7.0 billion" in large.reasons["checkpointing"]
    plain, early = (
        resolve(Hyperparameters(batch_size=4, early_stopping=patience), Facts(160, 256, 4_096, rows=160))
        for patience in (None, 2)
    )
    assert (plain.values.validate_every, early.values.validate_every) == (40, 10)


@pytest.mark.parametrize(
    ("values", "facts", "method", "about"),
    [
        ({"beta": 0.2}, {}, "sft", "belongs to DPO"),
        ({"packing": "packed"}, {}, "dpo", "not packed"),
        ({"early_stopping": 2}, {"held_out": False}, "sft", "held-out"),
        ({"precision": "fp16"}, {}, "sft", "needs a GPU"),
        ({"precision": "bf16"}, {"device": "cuda"}, "sft", "does not support bf16"),
        ({"batch_size": 3}, {"processes": 2}, "sft", "share evenly"),
        ({}, {}, "ppo", "use sft, dpo or kto"),
        ({"batch_size": 2}, {"processes": 2}, "kto", "use at least 4"),
        ({"packing": "packed"}, {}, "kto", "KTO compares answers"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    values: dict[str, Any], facts: dict[str, Any], method: Any, about: str
) -> None:
    with pytest.raises(Invalid, match=about) as caught:
        resolve(Hyperparameters(**values), Facts(100, 256, 4_096, **facts), method)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"dora": True}, {"rslora": True}, {"rank": 8}, {"alpha": 16}, {"dropout": 0.1}, {"adapter": 1}]
)
def test_full_tuning_takes_nothing_that_belongs_to_adapters(values: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(values))):
        Hyperparameters.from_dict({"tune": "full", **values})


@pytest.mark.parametrize(
    "wrong",
    [
        {"rank": 0},
        {"epochs": -1},
        {"learning_rate": "high"},
        {"schedule": "zigzag"},
        {"batch_size": True},
        {"tune": "all"},
        {"dora": 1},
        {"early_stopping": 0},
        {"beta": 9},
        {"checkpointing": "maybe"},
        {"rank": 2.5},
    ],
)
def test_nonsense_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong))):
        Hyperparameters.from_dict(wrong)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(Invalid, match="n_epoch"):
        Hyperparameters.from_dict({"n_epoch": 3})
