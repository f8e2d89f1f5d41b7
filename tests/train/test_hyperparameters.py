"""train/hyperparameters.py: every "auto" becomes a number by a rule that is told."""

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


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"epochs": -1}, {"learning_rate": "high"}, {"schedule": "zigzag"}, {"batch_size": True}]
)
def test_nonsense_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong))):
        Hyperparameters.from_dict(wrong)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(Invalid, match="n_epoch"):
        Hyperparameters.from_dict({"n_epoch": 3})
