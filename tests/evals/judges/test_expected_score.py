"""Scores weighted by the probabilities of each possible grade, in several tokenisations."""

from math import log

import pytest

from evals.judges.expected_score import expected_grade, expected_share
from models.chat.judge_prompt import Criterion, Rubric, pairwise_answer, pointwise_answer
from models.chat.messages import Token

PLAIN = Rubric("r", "Judge.", ("tone",))
WEIGHTED = Rubric("r", "Judge.", ("tone", "care"), (Criterion("tone", 3.0), Criterion("care", 1.0)))


def token(text: str, **others: float) -> Token:
    """A token with the remaining probability on others."""
    likeliest = [(text, log(1 - sum(others.values()))), *((other, log(share)) for other, share in others.items())]
    return Token(text=text, likeliest=likeliest)


def spelt(text: str, at: int, length: int, **others: float) -> list[Token]:
    """A text as single letters, except for one token of `length` at `at`."""
    letters = [token(letter) for letter in text[:at]]
    return [*letters, token(text[at : at + length], **others), *(token(letter) for letter in text[at + length :])]


def test_a_grade_is_the_mean_over_its_token() -> None:
    text = pointwise_answer('It says "score":1 and more', {"tone": 2}, 4)
    tokens = spelt(text, len(text) - 2, 1, **{"5": 0.3, "3": 0.1, "x": 0.1})
    assert expected_grade(text, tokens, PLAIN) == pytest.approx((0.5 * 4 + 0.3 * 5 + 0.1 * 3) / 0.9)


def test_a_token_may_begin_before_the_value_and_end_after_it() -> None:
    text = pointwise_answer("fine", {"tone": 2}, 4)
    tokens = spelt(text, len(text) - 3, 3, **{":2}": 0.25, "4}": 0.1, ": 5}": 0.1})
    assert expected_grade(text, [*tokens, Token(text="<|end|>", likeliest=())], PLAIN) == pytest.approx(
        (0.55 * 4 + 0.25 * 2) / 0.8
    )


def test_a_weighted_rubric_takes_the_criteria() -> None:
    text = pointwise_answer("fine", {"tone": 2, "care": 4}, 5)
    at = text.index('"tone":') + len('"tone":')
    assert expected_grade(text, spelt(text, at, 1, **{"1": 0.5}), WEIGHTED) == pytest.approx((3 * 1.5 + 4) / 4)


@pytest.mark.parametrize(("verdict", "share"), [("A", 0.625), ("tie", 0.5), ("B", 0.375)])
def test_a_verdict_is_the_share_of_what_stood_first(verdict, share: float) -> None:
    text = pairwise_answer("Because.", {"tone": 2}, {"tone": 3}, verdict)
    at = text.rindex(verdict)
    others = {name: 0.25 for name in ("A", "t", "B") if name != verdict[0]}
    tokens = spelt(text, at, len(verdict), **others)
    assert expected_share(text, tokens) == pytest.approx(share)


def test_without_matching_tokens_there_is_no_expected_score() -> None:
    text = pairwise_answer("Because.", {"tone": 2}, {"tone": 3}, "A")
    assert expected_share(text, ()) is None
    assert expected_share(text, [token("something else")]) is None
    assert expected_share("no verdict", [token("no verdict")]) is None
    bare = [Token(text=letter, likeliest=()) for letter in text]
    assert expected_share(text, bare) is None


def test_letters_that_tokens_spell_in_halves_do_not_matter() -> None:
    text = pairwise_answer("Größe 🙂", {"tone": 2}, {"tone": 3}, "B")
    at = text.rindex('"B"') + 1
    tokens = [token("\ufffd"), *spelt(text[3:], at - 3, 1, A=0.5)]
    assert expected_share(text, tokens) == pytest.approx(0.5)
