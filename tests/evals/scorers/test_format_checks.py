"""Scorers of form: definitions by example; no text makes one raise or leave its range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.scorers.format_checks import json_schema, refusal, regex, valid_json
from evals.scorers.sample import Sample
from models.errors import Invalid

SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}
ELSEWHERE = {"$ref": "http://127.0.0.1:9/schema.json"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("scorer", "answer", "expected"),
    [
        (regex(r"^Order \d+"), "Order 12 is here", 1.0),
        (regex(r"^Order \d+"), "My order 12", 0.0),
        (regex(r"^(a|aa)+$"), "a" * 60 + "!", None),  # would never end
        (valid_json(), ' {"a": [1, null]}\n', 1.0),
        (valid_json(), '```json\n{"a": 1}\n```', 0.0),
        (valid_json(), "[NaN]", 0.0),
        (valid_json(), "[" * 100_000, 0.0),
        (valid_json(), "", 0.0),
        (json_schema(SCHEMA), '{"city": "Bonn"}', 1.0),
        (json_schema(SCHEMA), '{"city": 1}', 0.0),
        (json_schema(SCHEMA), "Bonn", 0.0),
        (json_schema(ELSEWHERE), "1", None),  # it is not fetched
        (refusal(), "I'm sorry, but I can’t help with that.", 1.0),
        (refusal(), "I cannot really assist you there.", 1.0),
        (refusal(), "I'm not able to share that.", 1.0),
        (refusal(), "As an AI language model, I have no opinion.", 1.0),
        (refusal(), "Sorry for the wait! Your refund is on its way.", 0.0),
        (refusal(), "You can't help but smile: it was refunded.", 0.0),
        (refusal(), "", 0.0),
    ],
)
def test_scorers(scorer, answer: str, expected: float | None) -> None:
    assert scorer(Sample(), answer) == expected


def test_a_schema_may_be_the_samples_own() -> None:
    assert json_schema()(Sample(metadata={"schema": SCHEMA}), '{"city": "Bonn"}') == 1.0
    assert json_schema()(Sample(), "{}") is None
    assert json_schema()(Sample(metadata={"schema": {"type": 3}}), "{}") is None


@pytest.mark.parametrize("make", [lambda: regex("("), lambda: json_schema({"type": 3})])
def test_an_invalid_pattern_or_schema_is_a_one_line_error(make) -> None:
    with pytest.raises(Invalid) as caught:
        make()
    assert "\n" not in str(caught.value)


@given(st.text(alphabet=st.characters()) | st.recursive(st.just("["), lambda s: st.builds("{}{}".format, s, s)))
def test_scorers_never_raise_and_stay_in_range(answer: str) -> None:
    sample = Sample(metadata={"schema": SCHEMA})
    for scorer in (regex(r"(\w+)\s\1"), valid_json(), json_schema(), json_schema(SCHEMA), refusal()):
        assert scorer(sample, answer) in (0.0, 1.0, None)
