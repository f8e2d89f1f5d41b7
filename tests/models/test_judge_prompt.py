"""The judge's format: training rows, requests and the parser agree; anything else is None."""

import json

import pytest
from jsonschema import ValidationError, validate

from models.chat.judge_prompt import (
    DEFAULT_RUBRIC,
    Rubric,
    pairwise_answer,
    pairwise_messages,
    pairwise_schema,
    parse_pairwise,
    parse_pointwise,
    pointwise_answer,
    pointwise_schema,
)
from models.chat.messages import Message

GOOD = dict.fromkeys(DEFAULT_RUBRIC.criteria, 4)
BAD = dict.fromkeys(DEFAULT_RUBRIC.criteria, 2)


def test_a_trained_answer_matches_the_schema_and_parses() -> None:
    text = pairwise_answer("A says the number.", GOOD, BAD, "A")
    validate(json.loads(text), pairwise_schema(DEFAULT_RUBRIC))
    verdict = parse_pairwise(text)
    assert verdict is not None
    assert (verdict.verdict, verdict.scores_a, verdict.scores_b) == ("A", GOOD, BAD)
    text = pointwise_answer("Polite.", GOOD, 4)
    validate(json.loads(text), pointwise_schema(DEFAULT_RUBRIC))
    grade = parse_pointwise(text)
    assert grade is not None
    assert grade.score == 4


def test_reasons_come_before_scores_before_the_verdict() -> None:
    assert list(pairwise_schema(DEFAULT_RUBRIC)["properties"]) == ["reasons", "scores", "verdict"]


@pytest.mark.parametrize(
    "change",
    [{"verdict": "C"}, {"scores": {"A": GOOD}}, {"scores": {"A": GOOD | {"tone": 6}, "B": BAD}}, {"reasons": None}],
)
def test_an_answer_outside_the_schema_is_none(change: dict) -> None:
    answer = json.loads(pairwise_answer("r", GOOD, BAD, "tie")) | change
    assert parse_pairwise(json.dumps(answer)) is None
    with pytest.raises(ValidationError):
        validate(answer, pairwise_schema(DEFAULT_RUBRIC))


@pytest.mark.parametrize("text", ["", "A is better", "[]", '{"verdict": "A"}', "null", '{"reasons": "r"'])
def test_prose_and_truncated_json_are_none(text: str) -> None:
    assert parse_pairwise(text) is None
    assert parse_pointwise(text) is None


def test_each_side_is_shown_its_own_conversation_and_a_shared_one_once() -> None:
    def talk(answer: str) -> list[Message]:
        return [Message(role="user", content="First?"), Message(role="assistant", content=answer)]

    plain = pairwise_messages("q", "x", "y", DEFAULT_RUBRIC)[1].content
    assert plain == (
        "[Question]\nq\n\n[Answer A]\nx\n\n[Answer B]\ny\n\n"
        "Which answer is better: A, B or tie? Reply in JSON: reasons, scores, verdict."
    )
    shared = pairwise_messages("q", "x", "y", DEFAULT_RUBRIC, talk("same"), before_b=talk("same"))[1].content
    assert shared == "[Conversation so far]\nUser: First?\n\nAssistant: same\n\n" + plain
    own = pairwise_messages("q", "x", "y", DEFAULT_RUBRIC, talk("mine"), before_b=talk("other"))[1].content
    assert own == (
        "[Conversation of A so far]\nUser: First?\n\nAssistant: mine\n\n"
        "[Conversation of B so far]\nUser: First?\n\nAssistant: other\n\n" + plain
    )


def test_the_hash_follows_the_text() -> None:
    from dataclasses import replace

    assert DEFAULT_RUBRIC.hash != replace(DEFAULT_RUBRIC, text="Other.").hash
    assert "[Answer A]\nx" in pairwise_messages("q", "x", "y", DEFAULT_RUBRIC)[1].content


def test_deep_nesting_is_unread_like_any_other_text() -> None:
    for text in ("[" * 1500, "[" * 200_000, '{"a":' * 100_000):
        assert parse_pairwise(text) is None
        assert parse_pointwise(text) is None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A is right. [[A]]", "A"),
        ("[[B]]", "B"),
        ("Both fine: [[C]]", "tie"),
        ("My verdict is [[A>>B]].", "A"),
        ("[[A>B]]", "A"),
        ("[[A=B]]", "tie"),
        ("[[B>A]]", "B"),
        ("[[ B>>A ]]", "B"),
        ("[[A]] no, [[B]]", None),
        ("[[D]]", None),
        ("A", None),
    ],
)
def test_marks_are_read_where_the_rubric_requests_them(text: str, verdict: str | None) -> None:
    rubric = Rubric("arena", 'End with "[[A]]", "[[B]]" or "[[C]]" for a tie.', ("overall",))
    parsed = parse_pairwise(text, rubric)
    assert (parsed and parsed.verdict) == verdict
    assert parse_pairwise(text) is None, "a rubric that asks for JSON does not read marks"
    assert "JSON" not in pairwise_messages("Q", "one", "two", rubric)[1].content


def test_fenced_json_is_read_where_the_rubric_requests_it() -> None:
    rubric = Rubric("fenced", "Reply with a ```json block.", DEFAULT_RUBRIC.criteria)
    inside = pairwise_answer("r", GOOD, BAD, "A")
    for text in (f"Here:\n```json\n{inside}\n```\nDone.", f"```\n{inside}\n```", inside):
        parsed = parse_pairwise(text, rubric)
        assert parsed is not None
        assert parsed.verdict == "A"
    assert parse_pairwise(f"```json\n{inside}\n```") is None
    assert parse_pairwise(f"```json\n{inside}\n```\n```json\n{inside}\n```", rubric) is None
    grade = pointwise_answer("r", GOOD, 4)
    assert parse_pointwise(f"```json\n{grade}\n```", rubric) is not None
