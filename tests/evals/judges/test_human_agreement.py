"""A judge compared with people: agreement, chance, the ceiling, the trust rule and its text."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judges.human_agreement import (
    Choice,
    LabelledPair,
    agreement_by_category,
    describe_trust,
    human_agreement,
    kappa,
)

CHOICES: tuple[Choice, ...] = ("a", "b", "tie")


def world(
    n: int, judge_right: float, people_right: float, voters: int = 3, seed: int = 0, category: str | None = "orders"
) -> list[LabelledPair]:
    """n prompts with a true winner, which judge and people see with a probability each; otherwise they guess."""
    rng = random.Random(seed)

    def vote(truth: Choice, right: float) -> Choice:
        return truth if rng.random() < right else rng.choice(CHOICES)

    return [
        LabelledPair(
            prompt=f"{category}{i}",
            category=category,
            judge=vote(truth := rng.choice(("a", "b")), judge_right),
            votes=tuple((f"voter {v}", vote(truth, people_right)) for v in range(voters)),
        )
        for i in range(n)
    ]


def test_agreement_is_counted_by_hand() -> None:
    opinions = [
        LabelledPair("p", None, "a", (("ann", "a"), ("bo", "b"))),
        LabelledPair("q", None, "tie", (("ann", "tie"), ("bo", "a"))),
        LabelledPair("r", None, "b", (("ann", "b"),)),
        LabelledPair("s", None, "b", ()),
    ]
    (agreement,) = agreement_by_category(opinions)
    assert (agreement.pairs, agreement.votes, agreement.prompts, agreement.voters) == (3, 5, 3, 2)
    assert agreement.with_ties.value == pytest.approx(3 / 5)
    assert agreement.without_ties is not None
    assert (agreement.without_ties.value, agreement.without_ties.n) == (pytest.approx(2 / 3), 3)
    assert agreement.people is not None
    assert (agreement.people.value, agreement.people.n) == (0.0, 2)
    assert agreement.kappa is not None
    # Judge: a a tie tie b; people: a b tie a b. By chance (2·2 + 2·1 + 1·2) / 25.
    assert agreement.kappa.value == pytest.approx((3 / 5 - 8 / 25) / (1 - 8 / 25))
    assert agreement_by_category([opinions[-1]]) == ()


def test_kappa_sees_through_a_judge_that_always_names_the_favourite() -> None:
    rows = [("a", "a" if i % 10 else "b", i) for i in range(100)]
    agreement = kappa(rows)
    assert agreement is not None
    assert agreement.value == pytest.approx(0.0, abs=1e-12)
    assert kappa([("a", "a", i) for i in range(10)]) is None
    perfect = kappa([(CHOICES[i % 2], CHOICES[i % 2], i) for i in range(30)])
    assert perfect is not None
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 0.9, 1.0)  # the rule of three


def test_a_judge_as_good_as_people_is_trusted() -> None:
    agreement = human_agreement(world(150, 0.7, 0.7), None)
    assert agreement.trusted == "yes", agreement.why
    assert agreement.alt_test is not None
    assert agreement.alt_test.passed
    assert (agreement.alt_test.voters, agreement.alt_test.won) == (3, 2)
    assert agreement.gap is not None
    assert agreement.gap.low > -0.1


def test_a_judge_far_below_people_is_not() -> None:
    agreement = human_agreement(world(150, 0.4, 0.95), None)
    assert agreement.trusted == "no"
    assert "too low" in agreement.why
    assert agreement.alt_test is not None
    assert not agreement.alt_test.passed


def test_a_judge_that_guesses_is_not_shown_to_be_above_chance() -> None:
    agreement = human_agreement(world(200, 0.0, 0.9), None)
    assert agreement.trusted != "yes"
    assert "may be chance" in agreement.why


def test_a_judge_that_says_the_opposite_is_not_trusted() -> None:
    turn: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}
    opinions = [replace(opinion, judge=turn[opinion.judge]) for opinion in world(200, 0.9, 0.9)]
    assert human_agreement(opinions, None).trusted == "no"


def test_few_votes_are_never_enough_to_trust_a_judge() -> None:
    agreement = human_agreement(world(19, 1.0, 1.0), None)
    assert agreement.trusted == "unknown"
    assert "57 votes on 19 prompts" in agreement.why
    repeated = [replace(opinion, prompt=f"p{i % 10}") for i, opinion in enumerate(world(100, 1.0, 1.0))]
    assert human_agreement(repeated, None).trusted == "unknown"  # many votes, ten prompts


def test_without_a_ceiling_two_thirds_of_the_decisive_votes_decide() -> None:
    good = human_agreement(world(200, 0.95, 0.95, voters=1), None)
    assert (good.people, good.gap, good.alt_test) == (None, None, None)
    assert (good.trusted, "two voters" in good.why) == ("yes", True)
    bad = human_agreement(world(800, 0.1, 0.95, voters=1), None)
    assert bad.trusted == "no"


def test_the_summary_names_categories_by_trust() -> None:
    opinions = [
        *world(150, 0.9, 0.8),
        *world(150, 0.4, 0.95, seed=1, category="refunds"),
        *world(5, 1.0, 1.0, category="other"),
    ]
    groups = agreement_by_category(opinions)
    assert [group.category for group in groups] == [None, "orders", "refunds", "other"]
    words = describe_trust("judge", groups)
    assert words.startswith("Trust judge for orders. Do not trust judge for refunds.")
    assert "not known whether to trust judge for other" in words
    assert "people agree with each other in" in words
    assert "Nobody has voted" in describe_trust("judge", ())


opinion = st.builds(
    LabelledPair,
    prompt=st.integers(0, 8),
    category=st.sampled_from([None, "x", "y"]),
    judge=st.sampled_from(CHOICES),
    votes=st.lists(st.sampled_from(CHOICES), max_size=4).map(
        lambda votes: tuple((f"v{i}", c) for i, c in enumerate(votes))
    ),
)


@pytest.mark.long
@given(st.lists(opinion, max_size=30), st.randoms(use_true_random=False))
def test_sides_names_and_order_do_not_matter(opinions: Sequence[LabelledPair], shuffle) -> None:
    turn: dict[Choice, Choice] = {"a": "b", "b": "a", "tie": "tie"}
    turned = [
        replace(
            opinion, judge=turn[opinion.judge], votes=tuple((voter, turn[choice]) for voter, choice in opinion.votes)
        )
        for opinion in opinions
    ]
    shuffle.shuffle(turned)
    for first, second in zip(agreement_by_category(opinions), agreement_by_category(turned), strict=True):
        assert first.trusted == second.trusted
        assert first.with_ties.value == pytest.approx(second.with_ties.value)
        for a, b in (
            (first.kappa, second.kappa),
            (first.people_kappa, second.people_kappa),
            (first.people, second.people),
        ):
            assert (a is None) == (b is None)
            if a and b:
                assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))
                assert a.low - 1e-9 <= a.value <= a.high + 1e-9
