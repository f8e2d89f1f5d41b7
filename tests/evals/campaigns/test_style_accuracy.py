"""Style that identifies a model is detected and named; models of one style are classified by chance."""

import random

import pytest

from evals.campaigns.ballots import cast_vote
from evals.campaigns.progress import campaign_progress
from evals.campaigns.style_accuracy import style_accuracy
from tests.evals.campaigns.campaigns import MODELS, battle, opened
from tests.evals.scripted import Scripted

WORDS = [
    "the",
    "order",
    "was",
    "sent",
    "on",
    "its",
    "way",
    "and",
    "will",
    "be",
    "there",
    "in",
    "a",
    "few",
    "days",
    "so",
    "please",
    "wait",
    "for",
    "it",
]


def text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(8, 30))).capitalize() + "."


def test_a_signature_is_found_and_named() -> None:
    chance = random.Random(1)
    answers = [(f"{text(chance)}\n\nBest regards,", text(chance)) for _ in range(40)]
    style = style_accuracy(("a", "b"), answers)
    assert style.accuracy > 0.95
    assert style.low > 0.5
    assert (style.tells[0].mark, style.tells[0].share_1, style.tells[0].share_2) == (
        "ends with “Best regards,”",
        1.0,
        0.0,
    )
    assert "Best regards" in style.text


def test_equal_styles_are_classified_by_chance() -> None:
    chance = random.Random(2)
    accuracies = [style_accuracy(("a", "b"), [(text(chance), text(chance)) for _ in range(60)]) for _ in range(20)]
    assert sum(each.accuracy for each in accuracies) / 20 == pytest.approx(0.5, abs=0.06)
    assert all(each.tells == () for each in accuracies)


@pytest.mark.long
def test_progress_reports_style(database, tmp_path) -> None:
    opened(database, tmp_path, 12, MODELS[:2])
    models = Scripted({"model-one": lambda q: f"**Yes**, {q}", "model-two": lambda q: f"Yes, {q}"})
    for _ in range(12):
        cast_vote(database, battle(database, "ann", models).id, "ann", "left")
    (style,) = campaign_progress(database, "acceptance").style
    assert (style.model_1, style.model_2, style.prompts, style.accuracy) == ("model-one", "model-two", 12, 1.0)
    assert any(mark.mark == "bold" for mark in style.tells)
