"""A judge as a scorer: one stored grade per answer, from conversation and reference; an unreadable one is null."""

import asyncio

import pytest
from sqlalchemy import func, select

from evals.judges.judge_scorer import judge_scorer
from evals.tables import AnswerJudgmentRow
from evals.tasks.evaluations import TaskRun, list_evaluations, load_evaluation, run_task
from evals.tasks.summaries import against_first, diff, overview
from evals.tasks.task_rows import make_task
from models.chat.judge_prompt import DEFAULT_RUBRIC, Criterion, Rubric, pointwise_answer
from models.chat.messages import Completer, Completion, Message, last_question
from models.database import Database
from models.errors import Invalid

WEIGHTED = Rubric("w", "Judge.", ("tone", "care"), (Criterion("tone", 3.0), Criterion("care", 1.0, ((1, "rude"),))))


class Grader:
    """Grades an answer with yes 5, with no 2, others 1 (or `worthless`); `odd` gets no grade, `long` a refusal.

    `shown` has the judge's questions about the models' own answers, `baits` the others. Other models answer yes or no.
    """

    def __init__(self, worthless: int = 1) -> None:
        self.worthless = worthless
        self.shown: list[str] = []
        self.baits: list[str] = []

    def __call__(self, model: str) -> Completer:
        async def complete(messages: list[Message], **options: object) -> Completion:
            question = last_question(messages)
            if model != "judge":
                return Completion(text=f"{'yes' if model == 'b' else 'no'} to {question}")
            answer = question.partition("[Answer]\n")[2].partition("\n\nHow good")[0]
            real = answer.startswith(("yes to", "no to"))
            own = real and "once more" not in answer
            (self.shown if own else self.baits).append("\n".join(message.content for message in messages))
            if "long" in question:
                raise Invalid("too long for this judge")
            if "odd" in question:
                return Completion(text="I like it.")
            score = self.worthless if not real else 5 if answer.startswith("yes") else 2
            criteria = WEIGHTED.criteria if "care" in messages[0].content else DEFAULT_RUBRIC.criteria
            return Completion(text=pointwise_answer("so", dict.fromkeys(criteria, score), score))

        return complete


def scored(
    database: Database, rows: list[dict], rubric: Rubric = DEFAULT_RUBRIC, players: Grader | None = None
) -> tuple[str, Grader]:
    players = players or Grader()
    scorer = judge_scorer(database, ("judge", players("judge")), rubric, notes=["a toy"])
    task = make_task("t", "t", [(str(i), row) for i, row in enumerate(rows)])
    made = asyncio.run(run_task(database, players, TaskRun(task, ["a", "b"], [scorer], {"temperature": 0.0})))
    return made.id, players


@pytest.mark.long
def test_grades_have_clustered_intervals_and_unread_ones_are_counted(any_database: Database) -> None:
    rows = [{"input": f"q{i}", "expected": f"e{i}", "group": f"g{i // 2}"} for i in range(40)]
    key, players = scored(any_database, [*rows, {"input": "odd"}, {"input": "too long"}])
    evaluation = load_evaluation(any_database, key)
    name = f"judge:judge@support#{DEFAULT_RUBRIC.hash[:6]}"
    parts = [f"{name} · {criterion}" for criterion in DEFAULT_RUBRIC.criteria]
    assert [(facts.name, facts.low, facts.high) for facts in evaluation.scorers] == [
        (scorer, 1.0, 5.0) for scorer in (name, *parts)
    ]
    assert list_evaluations(any_database)[0].scorers == (name,)
    summary = overview(evaluation)
    for model, grade in ("a", 2.0), ("b", 5.0):
        mean = summary.of(model, name)
        assert (mean.mean, mean.n, mean.missing) == (pytest.approx(grade), 40, 2)
        assert 1.0 <= mean.low < mean.high <= 5.0  # forty equal grades in twenty groups do not make the mean certain
    assert {error: count for _, error, count in summary.scorer_errors} == {
        "the judge did not answer: too long for this judge": 2,
        "the judge's answer could not be parsed": 2,
    }
    assert (summary.of("b", parts[0]).mean, summary.of("b", parts[0]).n) == (pytest.approx(5.0), 40)
    (row,) = [row for row in diff(against_first(evaluation)).differences if row.category is None]
    assert (row.finding, row.summary.mean) == ("better", pytest.approx(3.0))
    assert "a toy" in evaluation.notes
    tested = "judge graded worthless answers (empty, constant, injecting, padded) below real ones."
    assert tested in evaluation.notes
    assert len(players.baits) == 8  # two questions, four baits, once for all models
    assert any(DEFAULT_RUBRIC.hash in note for note in evaluation.notes)
    assert sum("[Reference answer]\ne3\n" in shown for shown in players.shown) == 2


def test_a_judge_that_accepts_worthless_answers_is_not_trusted(database: Database) -> None:
    key, _ = scored(database, [{"input": f"q{i}"} for i in range(3)], players=Grader(worthless=4))
    (note,) = [note for note in load_evaluation(database, key).notes if "Do not rely" in note]
    assert "an empty answer lost only 0 of 2 comparisons" in note
    assert "padded" not in note
    key, _ = scored(database, [{"input": "odd"}])
    assert any("could not be tested" in note for note in load_evaluation(database, key).notes)


def test_grades_are_stored_and_only_unparsed_ones_are_requested_again(database: Database) -> None:
    rows = [{"input": "q1"}, {"input": "odd one"}]
    _, first = scored(database, rows)
    assert len(first.shown) == 4
    _, again = scored(database, rows)
    assert len(again.shown) == 2
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(AnswerJudgmentRow)) == 4


def test_an_answer_is_judged_against_each_reference(database: Database) -> None:
    _, players = scored(database, [{"input": "q", "expected": "one"}, {"input": "q", "expected": "two"}])
    assert len(players.shown) == 4
    assert sum("[Reference answer]\ntwo" in shown for shown in players.shown) == 2


def test_progress_runs_once_over_the_answers_of_all_models(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress ran from 0 to 1 for each model: the bar stood at 100 % during all models but the first."""
    monkeypatch.setattr("evals.request_pool._MIN_INTERVAL_S", 0.0)
    shares: list[float] = []
    players = Grader()
    scorer = judge_scorer(
        database, ("judge", players("judge")), DEFAULT_RUBRIC, report=lambda share, _: shares.append(share)
    )
    task = make_task("t", "t", [(str(i), {"input": f"q{i}"}) for i in range(5)])
    asyncio.run(run_task(database, players, TaskRun(task, ["a", "b", "c"], [scorer], {"temperature": 0.0})))
    assert shares == sorted(shares)
    assert shares.count(1.0) == 1
    assert len(shares) == 3 * 5 + 8 + 2  # three models' answers, the canaries, and the start of both


def test_a_later_turn_is_judged_in_the_models_own_conversation(database: Database) -> None:
    _, players = scored(database, [{"turns": ["hello", "and now"]}])
    second = [shown for shown in players.shown if "[Question]\nand now" in shown]
    assert len(second) == 2
    assert any("[Conversation so far]\nUser: hello\n\nAssistant: yes to hello" in shown for shown in second)
    assert any("[Conversation so far]\nUser: hello\n\nAssistant: no to hello" in shown for shown in second)


def test_weights_and_anchors_are_the_rubrics(database: Database) -> None:
    key, players = scored(database, [{"input": "q"}], WEIGHTED)
    assert "  - 1: rude" in players.shown[0]
    assert "75% of the whole" in players.shown[0]
    evaluation = load_evaluation(database, key)
    assert [result.scores for result in evaluation.results["b"]] == [
        dict.fromkeys((scorer.name for scorer in evaluation.scorers), 5.0)
    ]
