"""Scorers of overlap: compared with published figures, in range on any text, embeddings in few requests."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.reference_similarity import bleu, chrf, embedding_similarity, rouge_l
from evals.scorers.sample import Sample
from models.errors import Invalid


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [  # what rouge-score 0.1.2 gives without its stemmer
        ("the cat sat on the mat", "the cat is on the mat", 0.8333333333333334),
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("We refunded order 12 today.", "Your order 12 was refunded today, sorry!", 0.5),
        ("a b c d", "d c b a", 0.25),
        ("Grüße aus Köln", "grüße aus köln!", 1.0),  # there it drops ü and ö; here they count
        ("x", "", 0.0),
    ],
)
def test_rouge_l(expected: str, answer: str, value: float) -> None:
    assert rouge_l()(Sample(expected=expected), answer) == pytest.approx(value)


def test_bleu_and_chrf_are_sacrebleus_as_shares() -> None:
    sample = Sample(expected="the cat is on the mat")
    assert bleu()(sample, "the cat sat on the mat") == pytest.approx(0.37991784)
    assert chrf()(Sample(expected="the cat"), "the cat sat") == pytest.approx(0.834542337)
    several = Sample(expected="nothing alike", also=("the cat sat on the mat",))
    assert [scorer()(several, "the cat sat on the mat") for scorer in (rouge_l, bleu, chrf)] == pytest.approx([1, 1, 1])
    assert [scorer()(Sample(), "anything") for scorer in (rouge_l, bleu, chrf)] == [None] * 3


@given(st.text(alphabet=st.characters()), st.lists(st.text(alphabet=st.characters()), min_size=1, max_size=3))
def test_any_text_gives_a_share(answer: str, accepted: list[str]) -> None:
    sample = Sample(expected=accepted[0], also=tuple(accepted[1:]))
    for scorer in (rouge_l(), bleu(), chrf()):
        value = scorer(sample, answer)
        assert value is not None
        assert 0 <= value <= 1


def test_each_text_is_embedded_once_in_batches() -> None:
    batches: list[Sequence[str]] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        batches.append(texts)
        return [[1.0, 0.0] if "sun" in text else [0.0, 1.0] if "moon" in text else [0.0, 0.0] for text in texts]

    samples = [Sample(expected="sun"), Sample(expected="sun"), Sample(expected="sun", also=("moon",)), Sample()]
    score = embedding_similarity(embed)
    assert score(samples, ["the sun", "the moon", "the moon", "the sun"]) == [1.0, 0.0, 1.0, None]
    assert [sorted(texts) for texts in batches] == [["moon", "sun", "the moon", "the sun"]]
    assert score(samples[:2], ["", "neither"]) == [None, None]
    batches.clear()
    assert score([Sample(expected="sun")] * 100, [f"sun {i}" for i in range(100)]) == [1.0] * 100
    assert [len(texts) for texts in batches] == [64, 37]


def test_a_text_that_cannot_be_embedded_takes_no_others_along() -> None:
    def embed(texts: Sequence[str]) -> list[list[float]]:
        if any("long" in text for text in texts):
            raise Invalid("at most 5 tokens")
        return [[1.0, float(len(text))] for text in texts]

    samples = [Sample(expected=f"e{i}") for i in range(5)]
    scores = embedding_similarity(embed)(samples, ["a", "b", "too long", "d", "f"])
    assert [value is None for value in scores] == [False, False, True, False, False]
    with pytest.raises(Invalid, match="at most 5"):
        embedding_similarity(embed)([Sample(expected="long")], ["long too"])
