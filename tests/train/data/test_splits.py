"""train/splits.py: the same seed, the same split; copies never on both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from models.errors import Invalid
from models.messages import Message
from train.data.conversations import Conversation, Example
from train.data.splits import split


def example(line: int, question: str) -> Example:
    said = (Message(role="user", content=question), Message(role="assistant", content=f"Answer {line}"))
    return Example(line, Conversation(said))


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


def test_the_share_is_met_where_prompts_differ() -> None:
    examples = [example(line, str(line)) for line in range(1, 201)]
    assert len(split(examples, 0.1, 0).validation) == 20
    assert split(examples, 0, 0).validation == ()
    assert split(examples, 0.1, 0) != split(examples, 0.1, 1)


def test_a_share_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Invalid, match="validation share"):
        split([], 0.9, 0)
