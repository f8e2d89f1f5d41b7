"""One question to a judge: the request, one verdict from probabilities or samples, and refused options."""

import asyncio
from collections.abc import Sequence
from math import log
from typing import Any

import pytest

from evals.judges.answer_pairs import AnswerPair
from evals.judges.judge import Judge, Judgment, judgment_tokens
from evals.votes.prompts import Prompt
from models.chat.judge_prompt import DEFAULT_RUBRIC, Criterion, Rubric, pairwise_answer, pointwise_answer
from models.chat.messages import Completion, Message, Token
from models.errors import Invalid

GRADES = dict.fromkeys(DEFAULT_RUBRIC.criteria, 3)
WEIGHTED = Rubric("w", "Judge.", ("tone", "care"), (Criterion("tone", 3.0), Criterion("care", 1.0)))
PAIR = AnswerPair("p", Prompt("q", (Message(role="user", content="Why?"),), None, (), False, "t"), "one", "two")


class Model:
    """Answers with these texts in turn, and then always with the last; can refuse an option."""

    def __init__(self, *texts: str, refuses: str = "", tokens: Sequence[Token] = ()) -> None:
        self.texts = list(texts)
        self.refuses = refuses
        self.tokens = tuple(tokens)
        self.requests: list[dict[str, Any]] = []

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion:
        self.requests.append(options | {"messages": list(messages)})
        if self.refuses and self.refuses in options:
            raise Invalid(f"{self.refuses} is not supported by this model.")
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return Completion(text=text, tokens=self.tokens)


def judgment(judge: Model, shown: Any = "12", rubric: Rubric = DEFAULT_RUBRIC, samples: int = 1) -> Judgment:
    return asyncio.run(Judge("judge", judge, rubric, samples).judge(PAIR, shown))


def tokens(text: str, at: int, **others: float) -> list[Token]:
    sure = [Token(text=letter, likeliest=((letter, 0.0),)) for letter in text]
    own = (text[at], log(1 - sum(others.values())))
    sure[at] = Token(text=text[at], likeliest=(own, *((other, log(share)) for other, share in others.items())))
    return sure


@pytest.mark.parametrize(("shown", "share"), [("12", 0.75), ("21", 0.25)])
def test_probabilities_are_model_1s_share_in_either_order(shown: str, share: float) -> None:
    text = pairwise_answer("so", GRADES, GRADES, "A")
    judge = Model(text, tokens=tokens(text, len(text) - 3, B=0.25))
    judged = judgment(judge, shown)
    assert judged.expected == pytest.approx(share)
    assert judged.verdict == (1 if shown == "12" else 2)
    assert judge.requests[0]["logprobs"] is True
    assert judge.requests[0]["temperature"] == 0.0
    answers = ("one", "two") if shown == "12" else ("two", "one")
    assert f"[Answer A]\n{answers[0]}\n\n[Answer B]\n{answers[1]}" in judge.requests[0]["messages"][1].content


def test_log_probabilities_are_dropped_after_one_refusal() -> None:
    judge = Model(pairwise_answer("so", GRADES, GRADES, "A"), refuses="logprobs")
    instrument = Judge("judge", judge, DEFAULT_RUBRIC)
    assert asyncio.run(instrument.judge(PAIR, "12")).expected is None
    asyncio.run(instrument.judge(PAIR, "21"))
    assert ["logprobs" in options for options in judge.requests] == [True, False, False]


def test_another_refusal_is_the_servers_own_word() -> None:
    judge = Model("", refuses="temperature")
    with pytest.raises(Invalid, match="temperature"):
        judgment(judge)


def test_a_grade_by_weights_is_the_criterias_mean() -> None:
    judged = judgment(Model(pointwise_answer("so", {"tone": 5, "care": 1}, 2)), "1", WEIGHTED)
    assert (judged.verdict, judged.expected) == (2, 4.0)
    assert judged.scores == {"1": {"tone": 5, "care": 1}}


def test_samples_are_the_most_frequent_verdict_and_the_mean() -> None:
    texts = [pairwise_answer("so", GRADES, GRADES, verdict) for verdict in ("A", "B", "A")]
    judge = Model(*texts, "hm", "hm")
    judged = judgment(judge, samples=4)
    assert (judged.verdict, judged.expected) == (1, pytest.approx(2 / 3))  # what cannot be read is left out
    assert all(options["temperature"] == 0.7 for options in judge.requests)
    assert judgment(Model(*texts[:2]), samples=2).verdict == 0  # as often one as the other
    assert judgment(Model("hm"), samples=3).verdict is None
    grades = [pointwise_answer("so", GRADES, grade) for grade in (5, 4)]
    assert judgment(Model(*grades), "2", samples=2).expected == 4.5


def test_more_criteria_raise_the_token_limit() -> None:
    assert judgment_tokens(DEFAULT_RUBRIC) == 400
    assert judgment_tokens(Rubric("long", "Judge.", tuple("abcdefgh"))) == 650


def test_a_plain_question_is_stored_under_the_rubric_hash() -> None:
    plain = Judge("judge", Model(""), DEFAULT_RUBRIC)
    assert plain.key(PAIR) == DEFAULT_RUBRIC.hash
    keys = {
        plain.key(PAIR),
        Judge("judge", Model(""), DEFAULT_RUBRIC, 3).key(PAIR),
        Judge("judge", Model(""), DEFAULT_RUBRIC, 1, {"q": "Because."}).key(PAIR),
        Judge("judge", Model(""), DEFAULT_RUBRIC, 1, {"q": "So."}).key(PAIR),
    }
    assert len(keys) == 4
    assert max(map(len, keys)) <= 64
