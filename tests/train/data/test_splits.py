"""train/data/splits.py: the same seed gives the same split; copies are never on both sides."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from models.chat.messages import Message
from models.errors import Invalid
from train.data.conversations import Conversation, Example, Preference
from train.data.splits import split


def example(line: int, question: str, **metadata: str) -> Example:
    messages = (Message(role="user", content=question), Message(role="assistant", content=f"Answer {line}"))
    return Example(line, Conversation(messages), metadata=metadata)


@settings(max_examples=40, deadline=None)
@given(
    questions=some.lists(some.sampled_from("abcdefgh"), min_size=2, max_size=60),
    share=some.floats(0, 0.5),
    seed=some.integers(0, 5),
)
def test_nothing_is_lost_and_no_prompt_stands_on_both_sides(questions: list[str], share: float, seed: int) -> None:
    examples = [example(line, question) for line, question in enumerate(questions, 1)]
    parts = split(examples, share, seed)
    assert sorted(e.line for e in parts.train + parts.validation) == [e.line for e in examples]
    assert parts.train
    sides = [{e.conversation.prompt for e in side} for side in (parts.train, parts.validation)]
    assert not sides[0] & sides[1]
    assert parts == split(examples, share, seed)


def test_the_share_is_kept_where_prompts_differ() -> None:
    examples = [example(line, str(line)) for line in range(1, 201)]
    assert len(split(examples, 0.1, 0).validation) == 20
    assert split(examples, 0, 0).validation == ()
    assert split(examples, 0.1, 0) != split(examples, 0.1, 1)


def test_a_share_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Invalid, match="validation share"):
        split([], 0.9, 0)


def test_each_value_of_a_field_gets_its_share() -> None:
    topics = ["orders"] * 120 + ["refunds"] * 60 + ["rare"] * 20
    examples = [example(line, f"{topic} {line}", topic=topic) for line, topic in enumerate(topics, 1)]
    parts = split(examples, 0.15, 3, by="topic")
    assert Counter(part.metadata["topic"] for part in parts.validation) == {"orders": 18, "refunds": 9, "rare": 3}
    with pytest.raises(Invalid, match=r"No example has a field 'colour'. The fields are: topic"):
        split(examples, 0.15, 3, by="colour")


def test_near_copies_and_pairs_of_one_question_stay_together() -> None:
    text = " ".join(f"word{number}" for number in range(60))
    examples = [example(line, f"{text} {line // 2}") for line in range(80)]
    for seed in range(3):
        assert not split(examples, 0.2, seed).validation  # all are alike: nothing can be held out
    pairs = [
        Preference(line, (Message(role="user", content=f"question {line // 4}"),), (message("yes"),), (message("no"),))
        for line in range(80)
    ]
    parts = split(pairs, 0.2, 0)
    assert len(parts.validation) == 16
    assert not {pair.prompt for pair in parts.train} & {pair.prompt for pair in parts.validation}


def message(text: str) -> Message:
    return Message(role="assistant", content=text)
