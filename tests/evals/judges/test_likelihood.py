"""The rubric likelihood: scores from echoed log-probabilities, the same verdict in both orders, and its canaries.

A real engine gives the scores in tests/test_story.py.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from evals.judges.answer_pairs import AnswerPair
from evals.judges.judge import Judge, Judgment
from evals.judges.judge_scorer import judge_scorer
from evals.judges.likelihood import mean_log_probability
from evals.judges.pairwise import judge_models
from evals.judges.pointwise import grade_models
from evals.judges.request import JudgeRequest
from evals.judges.rubric import LIKELIHOOD_RUBRIC, find_rubric
from evals.votes.prompts import Prompt, add_prompts
from models.chat.messages import Completion, Message
from models.database import Database
from models.errors import Invalid, Unavailable


class CharacterModel:
    """A model whose tokens are characters: each has the log-probability -1, and after a repeated one -0.5."""

    model = "judge"

    def __init__(self) -> None:
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion:
        raise AssertionError("it writes no verdict")

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        self.requests.append((path, body))
        if path == "/tokenize":
            text = body.get("prompt") or "".join(f"<{turn['role']}>{turn['content']}" for turn in body["messages"])
            return {"tokens": [ord(letter) for letter in text]}
        tokens = body["prompt"]
        repeated = [a == b for a, b in pairwise(tokens)]
        return {"choices": [{"logprobs": {"token_logprobs": [None, *(-0.5 if same else -1.0 for same in repeated)]}}]}


def pair(answer_1: str, answer_2: str) -> AnswerPair:
    messages = (Message(role="user", content="q"),)
    prompt = Prompt("p", messages, None, (), held_out=False, source="test")
    return AnswerPair("pair", prompt, answer_1, answer_2, models=("one", "two"))


def judged(answer_1: str, answer_2: str, server: CharacterModel | None = None) -> list[Judgment]:
    judge = Judge("judge", server or CharacterModel(), LIKELIHOOD_RUBRIC)

    async def both() -> list[Judgment]:
        return list(await asyncio.gather(*(judge.judge(pair(answer_1, answer_2), order) for order in ("12", "21"))))

    return asyncio.run(both())


def test_the_answer_with_the_higher_mean_log_probability_wins_in_both_orders() -> None:
    server = CharacterModel()
    first, second = judged("abcd", "aabb", server)
    assert (first.verdict, second.verdict) == (2, 2)
    assert json.loads(first.raw) == {"log_probabilities": [-1.0, -0.75]}
    assert json.loads(second.raw) == {"log_probabilities": [-0.75, -1.0]}
    assert first.reasons == second.reasons == "mean log-probability of a token: one -1.00, two -0.75"
    assert [path for path, _ in server.requests].count("/completions") == 2, "each answer is scored once"
    body = next(body for path, body in server.requests if path == "/completions" and body["prompt"][-1] == ord("d"))
    assert body["prompt"] == [ord(letter) for letter in "<user>qabcd"]
    assert (body["echo"], body["max_tokens"], body["logprobs"]) == (True, 0, 0)


@pytest.mark.parametrize(
    ("answer_1", "answer_2", "verdict"), [("abc", "abc", 0), ("abc", "", 1), ("", "abc", 2), ("", "", 0)]
)
def test_an_empty_answer_loses_and_equal_ones_tie(answer_1: str, answer_2: str, verdict: int) -> None:
    assert [judgment.verdict for judgment in judged(answer_1, answer_2)] == [verdict, verdict]


def test_a_server_without_log_probabilities_of_the_prompt_is_named() -> None:
    answers = ({}, {"choices": [{"logprobs": None}]}, {"choices": [{"logprobs": {"token_logprobs": [None, -1.0]}}]})
    for answer in answers:
        with pytest.raises(Unavailable, match="no log-probabilities of a prompt"):
            mean_log_probability(answer, 3)
    with pytest.raises(Unavailable, match="no log-probabilities of a prompt"):
        mean_log_probability({"choices": [{"logprobs": {"token_logprobs": [None, -1.0]}}]}, 2)


def test_what_it_cannot_do_is_refused(database: Database) -> None:
    async def recorded(messages: Sequence[Message], **options: Any) -> Completion:
        return Completion(text="")

    server = CharacterModel()
    with pytest.raises(Invalid, match="leave it at 1"):
        Judge("judge", server, LIKELIHOOD_RUBRIC, 3)
    with pytest.raises(Invalid, match="needs a served model"):
        Judge("judge", recorded, LIKELIHOOD_RUBRIC)
    with pytest.raises(Invalid, match="grades none"):
        judge_scorer(database, ("judge", server), LIKELIHOOD_RUBRIC)
    request = JudgeRequest("judge", ("one", "two"), rubric=LIKELIHOOD_RUBRIC)
    with pytest.raises(Invalid, match="grades none"):
        asyncio.run(grade_models(database, lambda model: server, request))


def test_a_run_reports_its_verdicts_and_its_weakness(database: Database) -> None:
    add_prompts(database, [{"prompt": f"order {number}?"} for number in range(4)], "test")
    server = CharacterModel()

    def completer(model: str) -> Any:
        async def answer(messages: Sequence[Message], **options: Any) -> Completion:
            return Completion(text="hello" if model == "one" else "hey you")

        return server if model == "judge" else answer

    request = JudgeRequest("judge", ("one", "two"), rubric=find_rubric("likelihood"))
    report = asyncio.run(judge_models(database, completer, request))
    assert (report.judged, report.win_rate, report.flip_rate, report.unparsed) == (4, 0.0, 0.0, 0)
    assert (report.rubric, report.scores) == ("likelihood", {"one": {}, "two": {}})
    outcomes = {canary.kind: canary.passed for canary in report.canaries}
    assert outcomes["empty"]
    assert outcomes["swapped"]
    assert all("log-probability" in row.reasons for row in report.rows)
