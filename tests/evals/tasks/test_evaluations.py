"""Evaluations: stored and loaded whole, resumed, summed up with clustered intervals, compared pair by pair."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from evals.scorers.catalog import NamedScorer, Score, named_scorer
from evals.tables import EvaluationRow
from evals.tasks.evaluations import Evaluation, Result, ScorerInfo, TaskRun, list_evaluations, load_evaluation, run_task
from evals.tasks.summaries import Side, against_first, diff, overview
from evals.tasks.summary_json import diff_json, overview_json
from evals.tasks.task import Task
from evals.tasks.task_rows import make_task
from models.database import Database, utcnow
from models.errors import Invalid, NotFound, Unavailable
from tests.evals.scripted import Scripted

TASK = make_task(
    "faq", "faq.jsonl",
    [("", {"input": f"q{i}", "expected": "yes", "category": "even" if i % 2 == 0 else "odd"}) for i in range(40)],
)  # fmt: skip


def scripted(right: dict[str, int]) -> Scripted:
    """Models that answer yes to that many first questions."""
    return Scripted({m: lambda q, n=n: "yes" if int(q[1:]) < n else "no" for m, n in right.items()})


def evaluated(database: Database, answers, task: Task = TASK, scorers=("exact", "words"), models=("a", "b")) -> str:
    named = [scorer if isinstance(scorer, NamedScorer) else named_scorer(scorer) for scorer in scorers]
    return asyncio.run(run_task(database, answers, TaskRun(task, models, named, {"temperature": 0.0}))).id


def test_an_evaluation_is_stored_and_loaded_whole(any_database: Database) -> None:
    key = evaluated(any_database, scripted({"a": 20, "b": 36}))
    loaded = load_evaluation(any_database, "last")
    assert (loaded.id, loaded.task_hash, loaded.models) == (key, TASK.hash, ("a", "b"))
    assert loaded.samples == TASK.samples
    assert [result.scores["exact"] for result in loaded.results["a"]] == [1.0] * 20 + [0.0] * 20
    assert load_evaluation(any_database, key[-6:].lower()) == loaded
    (listed,) = list_evaluations(any_database)
    assert (listed.task, listed.samples, listed.scorers, listed.failed) == ("faq", 40, ("exact", "words"), 0)
    assert list_evaluations(any_database, "other") == []
    with pytest.raises(NotFound):
        load_evaluation(any_database, "none")


def test_two_runs_at_once_with_other_scorers_are_two_evaluations(any_database: Database) -> None:
    """The second run took the first one's row, and left its own scorers' names beside the first one's scores."""
    inner: list[str] = []

    def slow(samples, answers) -> list[Score]:
        inner.append(evaluated(any_database, scripted({"a": 20, "b": 36}), scorers=("words",)))
        return [Score(1.0) for _ in answers]

    outer = evaluated(any_database, scripted({"a": 20, "b": 36}), scorers=("exact", NamedScorer("slow", slow)))
    first, second = load_evaluation(any_database, outer), load_evaluation(any_database, inner[0])
    for loaded, names in (first, ["exact", "slow"]), (second, ["words"]):
        assert [facts.name for facts in loaded.scorers] == names
        assert all(list(result.scores) == names for result in loaded.results["a"])
        assert overview(loaded).of("b", names[0]).n == 40


def test_means_and_differences_have_intervals_by_category_and_regressions(database: Database) -> None:
    evaluated(database, scripted({"a": 20, "b": 36, "c": 20}), models=("a", "b", "c"))
    loaded = load_evaluation(database, "last")
    summary = overview(loaded)
    assert summary.categories == ("even", "odd")
    mean = summary.of("b", "exact")
    assert (mean.mean, mean.n, mean.missing) == (0.9, 40, 0)
    assert mean.low < 0.9 < mean.high <= 1
    assert summary.of("b", "exact", "odd").n == 20
    compared = diff(against_first(loaded))
    assert compared.comparisons == 2 * 2 * 3  # pairs, scorers, all and two categories
    by = {(row.model_b, row.scorer, row.category): row for row in compared.differences}
    better = by["b", "exact", None]
    assert (better.finding, better.summary.mean) == ("better", pytest.approx(0.4))
    assert better.wide.low < better.summary.low
    assert by["c", "exact", None].finding == by["c", "words", None].finding == "not clear"
    assert (len(compared.regressions), compared.improvements) == (0, 16)
    assert "12 comparisons" in compared.summary
    back = diff([(Side(loaded, "b"), Side(loaded, "a"))])
    assert back.differences[0].finding == "worse"
    assert len(back.regressions) == 16
    assert (back.regressions[0].text_a, back.regressions[0].text_b) == ("yes", "no")
    assert diff_json(back)["regressions"][0]["sample"]["id"] == "21"
    assert overview_json(loaded, summary, compared)["diff"]["comparisons"] == 12


def test_a_failed_answer_is_counted_and_has_no_score(database: Database) -> None:
    def fails(question: str) -> str:
        if question == "q0":
            raise Invalid("too long for this model")
        return "yes"

    def some(samples, answers) -> list[Score]:
        return [Score(None, "no idea") if i == 0 else Score(1.0) for i in range(len(answers))]

    evaluated(database, Scripted({"a": fails, "b": lambda q: "yes"}), scorers=("exact", NamedScorer("own", some)))
    loaded = load_evaluation(database, "last")
    assert loaded.results["a"][0] == Result(None, "too long for this model", {}, {})
    summary = overview(loaded)
    assert (summary.of("a", "exact").mean, summary.of("a", "exact").n, summary.of("a", "exact").missing) == (1.0, 39, 1)
    assert (summary.facts[0].failed, summary.facts[0].errors) == (1, (("too long for this model", 1),))
    assert summary.scorer_errors == (("own", "no idea", 1),)  # a scorer gets all models' answers at once
    (row, *_) = diff(against_first(loaded)).differences
    assert (row.summary.n, row.summary.mean) == (39, 0.0)
    with pytest.raises(Unavailable, match="too long"):
        evaluated(database, Scripted({"a": fails}), make_task("one", "one", [("", {"input": "q0"})]), models=("a",))


def test_a_run_that_was_not_finished_continues_under_its_id(database: Database) -> None:
    completer_for = scripted({"a": 20, "b": 20})

    def stopped(question: str) -> str:
        if question == "q30":
            raise asyncio.CancelledError  # as Ctrl-C does
        return "yes"

    with pytest.raises(asyncio.CancelledError):
        evaluated(database, Scripted({"a": stopped, "b": stopped}))
    (unfinished,) = list_evaluations(database)
    assert unfinished.finished is None
    with pytest.raises(NotFound):
        load_evaluation(database, "last")
    assert evaluated(database, completer_for) == unfinished.id
    assert evaluated(database, completer_for) != unfinished.id  # a finished one stands; new scores are a new evaluation
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(EvaluationRow)) == 2


@pytest.mark.parametrize("wrong", [{"models": ()}, {"models": ("a", "a")}, {"scorers": ()}])
def test_invalid_requests_are_refused_before_any_request(wrong: dict, database: Database) -> None:
    completer_for = scripted({"a": 20})
    with pytest.raises(Invalid):
        evaluated(database, completer_for, **wrong)
    assert completer_for.calls == []


def evaluation(
    scores: dict[str, list[float | None]], better="higher", low=0.0, high=1.0, task: Task = TASK
) -> Evaluation:
    """An evaluation as it would be loaded, with these scores of one scorer."""
    results = {
        model: tuple(Result("x", None, {"s": value}, {}) for value in values) for model, values in scores.items()
    }
    facts = (ScorerInfo("s", better, low, high),)
    n = len(next(iter(scores.values())))
    return Evaluation(
        id=",".join(scores), task="t", task_hash=task.hash, source="t", left_out=0, models=tuple(scores), parameters={},
        scorers=facts, samples=task.samples[:n], results=results, notes=(), created=utcnow(), finished=utcnow(),
    )  # fmt: skip


VALUES = st.lists(
    st.tuples(st.sampled_from([None, 0.0, 0.5, 1.0]), st.sampled_from([None, 0.0, 1.0])), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_swapping_the_sides_turns_the_difference_round(drawn: list) -> None:
    both = evaluation({"a": [a for a, _ in drawn], "b": [b for _, b in drawn]})
    there, back = (diff([(Side(both, left), Side(both, right))]) for left, right in (("a", "b"), ("b", "a")))
    for forth, turned in zip(there.differences, back.differences, strict=True):
        assert forth.summary.n == turned.summary.n
        if forth.summary.mean is None:
            assert turned.summary.mean is None
            continue
        assert forth.summary.mean == pytest.approx(-turned.summary.mean)
        if forth.summary.low is not None:
            assert -1 - 1e-9 <= forth.summary.low <= forth.summary.mean + 1e-9
            assert forth.summary.low == pytest.approx(-turned.summary.high)
        assert {forth.finding, turned.finding} in ({"not clear"}, {"better", "worse"}, {"not enough evidence"})
        if forth.summary.n < 20:
            assert forth.finding == "not enough evidence"
    assert len(there.regressions) == back.improvements


def test_the_good_end_is_the_scorers() -> None:
    low = evaluation({"a": [1.0] * 40, "b": [0.0] * 40}, better="lower")
    assert diff(against_first(low)).differences[0].finding == "better"
    neither = evaluation({"a": [9.0] * 39 + [8.0], "b": [2.0] * 39 + [3.0]}, better="neither", high=None)
    result = diff(against_first(neither))
    assert result.differences[0].finding == "less"
    assert result.regressions == ()


def test_incomparable_evaluations_are_refused() -> None:
    first = evaluation({"a": [1.0] * 4, "b": [0.0] * 4})
    other = evaluation({"a": [1.0] * 4}, task=make_task("x", "x", [("", {"input": f"z{i}"}) for i in range(4)]))
    for sides, message in (
        ((Side(first, "a"), Side(other, "a")), "different tasks"),
        ((Side(first, "a"), Side(first, "a")), "different models"),
    ):
        with pytest.raises(Invalid, match=message):
            diff([sides])
    with pytest.raises(Invalid, match="not in this evaluation"):
        against_first(first, ["nobody"])


def test_samples_of_one_group_are_one_cluster() -> None:
    grouped = make_task("g", "g", [("", {"input": f"q{i}", "group": f"g{i // 10}"}) for i in range(40)])
    scores = {"a": [float(i // 10 % 2) for i in range(40)]}
    together = overview(evaluation(scores, task=grouped)).of("a", "s")
    apart = overview(evaluation(scores)).of("a", "s")
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
