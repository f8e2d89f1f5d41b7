"""Advice: what the rules say of clear cases, and what is seen in data."""

import json
from dataclasses import replace

import pytest

from models.errors import Invalid
from train.data.advising import RULES, Answers, Facts, advise, find_facts

STYLE = Facts(
    examples=800, prompt_words=12, answer_words=40, system_words=400, distinct_prompts=1.0, variety=0.5,
    format="JSON", one_format=1.0, one_system=1.0, with_own_facts=0.05, repeated_opening=0.5,
)  # fmt: skip
FACTUAL = replace(STYLE, format="prose", one_format=0.9, with_own_facts=0.8, system_words=10, repeated_opening=0.1)


def rows(number: int, answer: str) -> list[dict[str, object]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"question {n} about thing {n * 7}"},
                {"role": "assistant", "content": answer.format(n=n, code=f"AB-{n * 31}")},
            ]
        }
        for n in range(number)
    ]


def test_style_that_prompts_could_not_teach_is_trained() -> None:
    advice = advise(STYLE, Answers(tried="few-shot", knowledge_changes="never", latency_ms=500))
    assert advice.choice == "fine-tuning"
    assert not advice.close
    names = {reason.rule for reason in advice.reasons_for("fine-tuning")}
    assert {"answers are style", "one format", "enough", "must be fast"} <= names


def test_facts_that_change_are_retrieved() -> None:
    advice = advise(FACTUAL, Answers(tried="prompt", knowledge_changes="weekly", documents=True))
    assert advice.choice == "retrieval"
    assert advice.scores["fine-tuning"] < advice.scores["retrieval"]


def test_style_and_moving_facts_want_both() -> None:
    advice = advise(STYLE, Answers(tried="retrieval", knowledge_changes="weekly", documents=True))
    assert {advice.choice, *advice.beside} == {"retrieval", "fine-tuning"}


def test_a_few_examples_go_into_a_prompt() -> None:
    advice = advise(replace(STYLE, examples=12), Answers(tried="prompt"))
    assert advice.choice == "few-shot"
    assert "12 examples are few" in " ".join(reason.reason for reason in advice.reasons)


def test_nothing_tried_begins_with_a_prompt() -> None:
    plain = replace(STYLE, examples=60, format="prose", system_words=0, repeated_opening=0.0, with_own_facts=0.3)
    advice = advise(plain)
    assert advice.choice == "prompting"
    assert "tried" in advice.unanswered


def test_the_same_facts_give_the_same_advice_and_json() -> None:
    answers = Answers(tried="prompt", requests_per_day=50_000, at_home=True, citations=True, documents=False)
    assert advise(FACTUAL, answers) == advise(FACTUAL, answers)
    found = json.loads(json.dumps(advise(FACTUAL, answers).as_json()))
    assert set(found["scores"]) == {"prompting", "few-shot", "retrieval", "fine-tuning"}


def test_every_rule_can_hold_and_tells_its_reason_and_what_would_change_it() -> None:
    cases = [
        (STYLE, Answers()),
        (STYLE, Answers(tried="prompt", knowledge_changes="weekly", documents=True, citations=True)),
        (STYLE, Answers(tried="few-shot", knowledge_changes="never", documents=False, latency_ms=100, at_home=True)),
        (FACTUAL, Answers(requests_per_day=20_000)),
        (replace(FACTUAL, examples=10, one_format=0.5, distinct_prompts=0.1, variety=0.1), Answers(requests_per_day=5)),
    ]
    held = {reason.rule: reason for facts, answers in cases for reason in advise(facts, answers).reasons}
    assert set(held) == {rule.name for rule in RULES}
    for reason in held.values():
        assert reason.change
        assert "{" not in reason.reason


def test_facts_of_single_rows_are_told_from_style() -> None:
    styled = find_facts(rows(60, "Thank you for asking. We will look into it at once. Bye!"))
    factual = find_facts(rows(60, "Your parcel is number {code} and it comes soon."))
    given = find_facts(rows(60, "You ask about {n}, and it comes soon."))
    assert styled.with_own_facts == 0.0
    assert factual.with_own_facts == 1.0
    assert given.with_own_facts == 0.0  # the number stands in the prompt: nothing to know by heart
    assert styled.variety < 0.2
    assert styled.repeated_opening == 1.0


def test_formats_are_seen() -> None:
    assert find_facts(rows(20, '{{"id": {n}}}')).format == "JSON"
    assert find_facts(rows(20, "refund")).format == "label"
    assert find_facts(rows(20, "Do this:\n1. open {n}\n2. close it")).format == "lists"
    mixed = find_facts([*rows(10, '{{"id": {n}}}'), *rows(10, "This is an answer in plain words, number {n}.")])
    assert mixed.one_format == 0.5


def test_nothing_to_look_at_is_one_line() -> None:
    with pytest.raises(Invalid, match="no example"):
        find_facts([])
