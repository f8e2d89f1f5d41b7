"""The program that grades by an assertion without a model, in the sandbox and as functions."""

import asyncio
import json
from typing import Any

import pytest

from evals.exchange import assertion_program
from evals.exchange.assertions import PYTHON_ADAPTER, assertion_of, assertion_source, to_grader
from evals.graders.grade import Case, GradingContext
from evals.graders.grading import grade_all

ITEM = {"city": "Oslo", "several": ["a", "b"], "nested": {"list": [{"x": 7}]}, "on": True, "off": False}


def no_model(*_: Any) -> Any:
    raise AssertionError("no model is asked")


@pytest.mark.parametrize(
    ("assertion", "text", "score"),
    [
        ({"type": "equals", "value": "{{city}}"}, "Oslo", 1),
        ({"type": "equals", "value": {"a": [1]}}, '{"a": [1]}', 1),
        ({"type": "equals", "value": {"a": 1}}, "no JSON", 0),
        ({"type": "equals", "value": 5}, "5", 1),
        ({"type": "not-contains", "value": "x"}, "abc", 1),
        ({"type": "icontains", "value": "OSLO"}, "in oslo.", 1),
        ({"type": "contains-any", "value": "{{several}}"}, "xb", 1),
        ({"type": "contains-any", "value": 'x, "b, c"'}, "a b, c", 1),
        ({"type": "contains-all", "value": ["a", "{{city}}"]}, "a Oslo", 1),
        ({"type": "icontains-all", "value": ["A", "B"]}, "xa", 0),
        ({"type": "starts-with", "value": "Os"}, "Oslo", 1),
        ({"type": "regex", "value": r"^\d+$"}, "12", 1),
        ({"type": "not-regex", "value": "{{city}}"}, "Oslo", 0),
        ({"type": "levenshtein", "value": "kitten", "threshold": 3}, "sitting", 1),
        ({"type": "levenshtein", "value": "kitten", "threshold": 2}, "sitting", 0),
        ({"type": "word-count", "value": {"min": 2}}, "one two", 1),
        ({"type": "word-count", "value": "3"}, "one two", 0),
        ({"type": "finish-reason", "value": "stop"}, "x", 1),
        ({"type": "is-json"}, "[1]", 1),
        ({"type": "is-json", "value": {"type": "object", "required": ["a"]}}, "{}", 0),
        ({"type": "contains-json", "value": {"required": ["a"]}}, 'so {x {"b": 1} then {"a": 1}', 1),
        ({"type": "contains", "value": "{{nested.list[0].x}}"}, "a 7", 1),
        ({"type": "contains", "value": "never", "applies": "off"}, "x", 1),
        ({"type": "contains", "value": "never", "applies": "on"}, "x", 0),
        ({"type": "assert-set", "assert": [{"type": "contains", "value": "a"}, {"type": "contains", "value": "b"}]},
         "a", 0),
        ({"type": "assert-set", "threshold": 0.6, "assert": [{"type": "contains", "value": "a", "weight": 3},
                                                             {"type": "contains", "value": "b"}]}, "a", 0.75),
    ],
)  # fmt: skip
def test_scores(assertion: dict[str, Any], text: str, score: float) -> None:
    sample = {"output_text": text, "choices": [{"finish_reason": "STOP"}]}
    assert assertion_program.grade_assertion(assertion, sample, ITEM) == score


def test_a_missing_field_and_an_unknown_assertion_are_errors() -> None:
    with pytest.raises(KeyError, match="gone has no value"):
        assertion_program.grade_assertion({"type": "equals", "value": "{{gone}}"}, {"output_text": ""}, {})
    with pytest.raises(ValueError, match="only its recorded verdicts are known"):
        assertion_program.grade_assertion({"type": "javascript", "value": "1"}, {"output_text": ""}, {})


def test_a_source_is_a_grader_and_has_its_assertion_again() -> None:
    assertion = {"type": "is-json", "value": {"required": ["ä\"'\n{{x}}"]}}
    source = assertion_source(assertion)
    assert assertion_of(source) == assertion
    assert assertion_of(source + "# changed") is None
    assert assertion_of("def grade(sample, item):\n    return 1\n") is None
    values = json.dumps({"ä\"'\n7": 1})
    cases = [Case({"x": 7}, {"output_text": text}) for text in (values, "{}")]
    grader = {"type": "python", "name": "json", "source": source}
    grades = asyncio.run(grade_all(grader, cases, GradingContext(no_model, lambda texts: [], unsandboxed=True)))
    assert [(grade.score, grade.error) for grade in grades] == [(1.0, None), (0.0, None)]


@pytest.mark.parametrize(
    ("code", "text", "score"),
    [
        ("len(output) < 3", "ab", 1.0),
        ("words = output.split()\nreturn {'pass': len(words) > 1, 'score': len(words) / 4}", "a b", 0.5),
        ("words = output.split()\nreturn {'pass': len(words) > 2, 'score': len(words) / 4}", "a b", 0.0),
        ("def get_assert(output, context):\n    return context['vars']['city'] in output", "Oslo!", 1.0),
    ],
)
def test_python_assertions_grade(code: str, text: str, score: float) -> None:
    grader = to_grader({"type": "python", "value": code}, "own", None)
    assert grader["source"].endswith(PYTHON_ADAPTER)
    context = GradingContext(no_model, lambda texts: [], unsandboxed=True)
    (grade,) = asyncio.run(grade_all(grader, [Case(ITEM, {"output_text": text})], context))
    assert (grade.score, grade.passed, grade.error) == (score, score > 0, None)
