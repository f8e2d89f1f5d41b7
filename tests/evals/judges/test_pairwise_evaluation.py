"""A judge over an evaluation's answers: two turns, each side in its own conversation, nulls counted, a report."""

import asyncio
import json
from collections.abc import Callable

import pytest

from evals.judges.pairwise_evaluation import judge_evaluation
from evals.judges.report import JudgeReport
from evals.judges.report_groups import by_group, null_reasons, report_json
from evals.judges.request import JudgeRequest
from evals.reports.judge_html import judge_report_html
from evals.scorers.catalog import named_scorer
from evals.tasks.evaluations import Evaluation, TaskRun, load_evaluation, run_task
from evals.tasks.task_rows import make_task
from models.chat.judge_prompt import DEFAULT_RUBRIC, pairwise_answer
from models.chat.messages import Completer, Completion, Message, last_question
from models.database import Database
from models.errors import Invalid, Unavailable

GRADES = dict.fromkeys(DEFAULT_RUBRIC.criteria, 3)
TASK = make_task(
    "talk", "talk.jsonl",
    [
        (str(i), {"turns": [f"first {i}", f"second {i}"], "expected": [f"right {i}", None],
                  "category": "even" if i % 2 == 0 else "odd", "id": str(i)})
        for i in range(4)
    ],
)  # fmt: skip


class Players:
    """Models that answer with the turn's number; `b` fails on `first 3`. The judge prefers the side called `better`."""

    def __init__(self, judge: Callable[[str], str]) -> None:
        self.judge = judge
        self.shown: list[str] = []

    def __call__(self, model: str) -> Completer:
        async def complete(messages: list[Message], **options: object) -> Completion:
            question = last_question(messages)
            if model == "judge":
                self.shown.append(question)
                return Completion(text=self.judge(question))
            if model == "b" and question == "first 3":
                raise Invalid("This model's context is 100 tokens.")
            turn = sum(message.role == "user" for message in messages)
            return Completion(text=f"{model}'s turn {turn}: {question} <b>&</b>")

        return complete


def better_is_b(question: str) -> str:
    answer_a = question.partition("[Answer A]")[2].partition("[Answer B]")[0]
    return pairwise_answer("so", GRADES, GRADES, "A" if "b's turn" in answer_a else "B")


def evaluated(database: Database, players: Players) -> Evaluation:
    scorers = [named_scorer("words")]
    made = asyncio.run(run_task(database, players, TaskRun(TASK, ["a", "b"], scorers, {"temperature": 0.0})))
    return load_evaluation(database, made.id)


def judged(database: Database, players: Players, models: tuple[str, str] = ("a", "b")) -> JudgeReport:
    evaluation = evaluated(database, players)
    return asyncio.run(judge_evaluation(database, players, JudgeRequest("judge", models), evaluation=evaluation))


def test_models_and_judge_see_each_models_own_first_turn(any_database: Database) -> None:
    players = Players(better_is_b)
    report = judged(any_database, players)
    second = next(shown for shown in players.shown if "[Question]\nsecond 0" in shown)
    for side, model in ("A", "a"), ("B", "b"):
        assert f"[Conversation of {side} so far]\nUser: first 0\n\nAssistant: {model}'s turn 1: first 0" in second
    first = next(shown for shown in players.shown if "[Question]\nfirst 0" in shown)
    assert "[Conversation" not in first
    assert "[Reference answer]\nright 0" in first
    assert "[Reference answer]" not in second
    assert (report.judged, report.wins_b, report.nulls) == (6, 6, 2)
    assert report.flip_rate == 0.0
    assert [row.turn for row in report.rows if row.outcome] == [1, 2] * 3


def test_missing_answers_are_nulls_with_reasons_by_group(database: Database) -> None:
    report = judged(database, Players(better_is_b))
    groups = {group.name: group for group in by_group(report)}
    assert set(groups) == {"everything", "even", "odd", "turn 1", "turn 2"}
    assert (groups["odd"].judged, groups["odd"].nulls) == (2, 2)
    assert (groups["turn 2"].judged, groups["turn 2"].nulls, groups["even"].nulls) == (3, 1, 0)
    assert groups["everything"].rate is not None
    assert groups["everything"].rate.low < 0.5  # six of six in three conversations is not certain
    reasons = dict(null_reasons(report))
    assert reasons == {
        "no answer from b: This model's context is 100 tokens.": 1,
        "no answer from b: The previous turn has no answer: This model's context is 100 tokens.": 1,
    }
    written = report_json(report)
    assert json.loads(json.dumps(written))["nulls"] == reasons
    assert JudgeReport.from_json(report.to_json()) == report


def test_a_question_with_two_references_is_judged_against_each(any_database: Database) -> None:
    """The same text twice, with another expected answer each: the answers are the same rows, the verdicts are not."""
    rows = [("1", {"input": "capital?", "expected": "Bonn"}), ("2", {"input": "capital?", "expected": "Berlin"})]
    task = make_task("twice", "twice.jsonl", rows)
    players = Players(lambda question: pairwise_answer("so", GRADES, GRADES, "A" if "Bonn" in question else "B"))

    def judging() -> JudgeReport:
        return asyncio.run(
            judge_evaluation(any_database, players, JudgeRequest("judge", ("a", "b")), evaluation=evaluation)
        )

    made = asyncio.run(
        run_task(any_database, players, TaskRun(task, ["a", "b"], [named_scorer("words")], {"temperature": 0.0}))
    )
    evaluation = load_evaluation(any_database, made.id)
    report = judging()
    assert [(row.a_first, row.b_first) for row in report.rows] == [("a", "b"), ("b", "a")]
    before = sum("capital?" in shown for shown in players.shown)
    assert judging().rows == report.rows
    # Stored verdicts are not requested again; the canaries are judged each time.
    assert sum("capital?" in shown for shown in players.shown) == before + (before - 4)


def test_the_report_as_html_has_every_pair_and_escapes_it(database: Database) -> None:
    report = judged(database, Players(better_is_b), ("b", "a"))
    assert (report.wins_a, report.wins_b) == (6, 0)
    text = judge_report_html(report)
    assert "<b>&</b>" not in text
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in text
    assert text.count("<details><summary>") >= 8
    assert "2 of 8 pairs have no verdict" in text
    assert "default-src 'none'" in text


def test_a_second_run_requests_only_unparsed_judgments(database: Database) -> None:
    unread = Players(lambda question: "no JSON" if "second 0" in question else better_is_b(question))
    report = judged(database, unread)
    assert (report.judged, report.unparsed) == (5, 2)
    assert dict(null_reasons(report))["the judge's answer could not be parsed"] == 1
    again = Players(better_is_b)
    report = judged(database, again)
    assert report.judged == 6
    about = [shown for shown in again.shown if "second 0" in shown and "turn 2: second 0" in shown]
    assert len([shown for shown in about if shown.count("turn 2: second 0") == 2]) >= 2
    assert not [shown for shown in again.shown if "[Question]\nsecond 2" in shown]


def test_too_long_questions_give_nulls_and_an_unreachable_judge_raises(
    database: Database,
) -> None:
    def short(question: str) -> str:
        raise Invalid("This model's context is 10 tokens.")

    def away(question: str) -> str:
        raise Unavailable("The server cannot be reached.")

    report = judged(database, Players(short))
    assert (report.judged, report.nulls, report.win_rate) == (0, 8, None)
    assert dict(null_reasons(report))["the judge did not answer: This model's context is 10 tokens."] == 6
    with pytest.raises(Unavailable):
        judged(database, Players(away))


def test_only_models_of_the_evaluation_can_be_judged(database: Database) -> None:
    evaluation = evaluated(database, Players(better_is_b))
    for models, message in (("a", "c"), "not in the evaluation"), (("a", "a"), "two different ones"):
        with pytest.raises(Invalid, match=message):
            asyncio.run(
                judge_evaluation(database, Players(better_is_b), JudgeRequest("judge", models), evaluation=evaluation)
            )
