"""A scripted judge that speaks real JSON: both orders, flips, unparsed text, canaries, resuming, agreement."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from evals.campaigns.ballots import cast_vote
from evals.judges.canaries import PAIRWISE_CALLS
from evals.judges.pairwise import judge_models
from evals.judges.pointwise import grade_models
from evals.judges.report import JudgeReport, agreement, combine_orders
from evals.judges.request import JudgeRequest
from evals.votes.prompts import add_prompts, prompts
from models.chat.judge_prompt import DEFAULT_RUBRIC, Rubric, pairwise_answer, pointwise_answer
from models.chat.messages import Completer
from models.database import Database
from models.errors import Invalid, NotFound, Unavailable
from tests.evals.battles import next_battle
from tests.evals.scripted import Scripted

BEFORE, AFTER, JUDGE = "a-before", "b-after", "judge"
GRADES = dict.fromkeys(DEFAULT_RUBRIC.criteria, 3)


def answers_of(question: str) -> tuple[str, str]:
    _, _, rest = question.partition("[Answer A]\n")
    first, _, rest = rest.partition("\n\n[Answer B]\n")
    return first, rest.rpartition("\n\nWhich answer")[0]


def says(verdict: Callable[[str, str], str]) -> Callable[[str], str]:
    return lambda question: pairwise_answer("because", GRADES | {"tone": 5}, GRADES, verdict(*answers_of(question)))


def longer(first: str, second: str) -> str:
    """Prefers the longer answer, whatever its text: only the empty canary loses to answers as short as these."""
    return "tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"


def sound(first: str, second: str) -> str:
    """Prefers real answers, which begin with stars, and among them the one with more."""
    stars = [len(answer) - len(answer.lstrip("*")) for answer in (first, second)]
    return "tie" if stars[0] == stars[1] else "A" if stars[0] > stars[1] else "B"


def script(judge: Callable[[str], str], **others: Callable[[str], str]) -> Scripted:
    answers = {BEFORE: lambda q: f"* Have a look at {q}", AFTER: lambda q: f"** It is about {q}, dear customer"}
    return Scripted(answers | {name.replace("_", "-"): answer for name, answer in others.items()} | {JUDGE: judge})


def fill(database: Database, n: int = 6) -> None:
    rows = [{"prompt": f"order {i}?", "category": "orders", "held_out": i % 2 == 0} for i in range(n)]
    add_prompts(database, rows, "test")


def run(database: Database, completer_for, models: tuple[str, str] = (BEFORE, AFTER), wanted=None, **options):
    report = options.pop("report", None)
    return asyncio.run(judge_models(database, completer_for, JudgeRequest(JUDGE, models, wanted, **options), report))


def test_a_sound_judge_is_trusted_and_reported(any_database: Database) -> None:
    fill(any_database)
    progress: list[tuple[float, str]] = []
    report = run(any_database, script(says(sound)), report=lambda *it: progress.append(it))
    assert (report.judged, report.wins_b, report.wins_a, report.ties) == (6, 6, 0, 0)
    assert report.win_rate == 1.0
    assert 0.4 < report.low < 0.8  # six of six is not certain
    assert report.high == 1.0
    assert (report.flip_rate, report.first_rate, report.unparsed, report.failed) == (0.0, 0.5, 0, 0)
    assert report.trusted
    assert [(c.kind, c.asked, c.lost) for c in report.canaries] == [
        ("empty", 4, 4),
        ("constant", 4, 4),
        ("injecting", 4, 4),
        ("padded", 4, 4),
        ("swapped", 6, 6),
    ]
    assert report.agreement is None
    assert report.scores[BEFORE]["tone"] == 4.0  # 5 when shown first, 3 when second
    assert progress[-1][0] == 1.0
    assert [share for share, _ in progress] == sorted(share for share, _ in progress)
    assert JudgeReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert f"prefers {AFTER} to {BEFORE}" in report.summary
    assert "of the verdicts" not in report.summary
    assert (report.flip_rate, report.unparsed, report.failed) == (0, 0, 0)


def test_the_reverse_order_is_the_mirror_and_repeats_no_request(database: Database) -> None:
    fill(database)
    run(database, script(says(sound)))
    again = script(says(sound))
    report = run(database, again, models=(AFTER, BEFORE))
    assert (report.win_rate, report.wins_a, report.model_a) == (0.0, 6, AFTER)
    assert report.rows[0].answer_a.startswith("**")
    assert set(again.calls) == {JUDGE}
    assert len(again.calls) == PAIRWISE_CALLS


def test_a_judge_that_takes_the_first_is_inconsistent_and_not_trusted(database: Database) -> None:
    fill(database)
    report = run(database, script(says(lambda first, second: "A")))
    assert (report.ties, report.flip_rate, report.first_rate, report.win_rate) == (6, 1.0, 1.0, 0.5)
    assert all(row.outcome == "tie" and row.consistent is False for row in report.rows)
    assert not report.trusted
    assert len(report.reasons) == 4
    assert "order of the answers changed its verdict on 6 of 6" in report.summary
    assert "Do not rely on it" in report.summary
    assert "changed 100% of the verdicts" in report.summary


def test_a_judge_that_loves_length_is_not_trusted(database: Database) -> None:
    fill(database)
    report = run(database, script(says(longer)))
    assert report.wins_b == 6
    assert not report.trusted
    assert [canary.kind for canary in report.canaries if not canary.passed] == ["constant", "injecting", "padded"]
    assert "preferred an answer padded with repetition" in report.summary
    assert report.longer is not None
    assert report.longer.value == 1.0


def test_unparsed_verdicts_are_counted_and_are_not_ties(database: Database) -> None:
    fill(database)

    def judge(question: str) -> str:
        return "I like both" if answers_of(question)[0].startswith("**") else says(sound)(question)

    report = run(database, script(judge))
    assert (report.judged, report.unparsed, report.ties, report.win_rate) == (0, 6, 0, None)
    assert (report.low, report.high) == (0.0, 1.0)
    assert all(row.outcome is None for row in report.rows)
    assert "no verdict" in report.summary
    json.dumps(report.to_json(), allow_nan=False)


def test_only_unparsed_verdicts_are_requested_again(any_database: Database) -> None:
    fill(any_database)
    mute = {"order 0?", "order 3?"}

    def judge(question: str) -> str:
        return "hm" if any(f"[Question]\n{text}" in question for text in mute) else says(sound)(question)

    assert run(any_database, script(judge)).unparsed == 4
    again = script(says(sound))
    report = run(any_database, again)
    assert (report.judged, report.unparsed) == (6, 0)
    assert again.calls.count(JUDGE) == 4 + PAIRWISE_CALLS
    assert run(any_database, script(judge)).unparsed == 0  # verdicts that were read stay


def test_the_judge_sees_the_conversation_and_the_reference(database: Database) -> None:
    turns = [("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi!"), ("user", "And order 7?")]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]}, {"prompt": "order 8?"}]
    add_prompts(database, rows, "test")
    questions: list[str] = []

    def judge(question: str) -> str:
        questions.append(question)
        return says(sound)(question)

    references = {prompts(database)[1].id: "It left on Monday."}
    run(database, script(judge), references=references, wanted=[prompt.id for prompt in prompts(database)])
    start = "[Conversation so far]\nInstructions: Be kind.\n\nUser: Hello\n\nAssistant: Hi!\n\n[Question]\nAnd order 7?"
    longer_ones = [question for question in questions if "order 7?" in question]
    plain = [question for question in questions if "order 8?" in question]
    assert all(question.startswith(start) for question in longer_ones)
    assert all(
        question.startswith("[Question]\norder 8?\n\n[Reference answer]\nIt left on Monday.") for question in plain
    )
    questions.clear()
    run(database, script(judge), wanted=[prompt.id for prompt in prompts(database)])
    # Without the reference it is another question; the verdicts with it stay stored.
    assert next(question for question in questions if "order 8?" in question).startswith(
        "[Question]\norder 8?\n\n[Answer A]"
    )


def test_several_samples_combine_into_one_verdict(database: Database) -> None:
    fill(database, 1)
    verdicts = iter("ABA BBtie".replace("tie", "T"))
    drawn: list[str] = []

    def judge(question: str) -> str:
        if "Have a look" in answers_of(question)[0] and "dear customer" in answers_of(question)[1]:
            drawn.append(next(verdicts))
            return pairwise_answer("so", GRADES, GRADES, {"A": "A", "B": "B"}.get(drawn[-1], "tie"))  # type: ignore[arg-type]
        return says(sound)(question)

    report = run(database, script(judge), samples=3)
    assert drawn == ["A", "B", "A"]
    assert report.rows[0].a_first == "a"
    assert report.rows[0].b_first == "b"
    assert report.rows[0].share == pytest.approx((1 / 3 + 1) / 2)
    assert (report.samples, report.weighed) == (3, 2)
    with pytest.raises(Invalid, match="1 to 32"):
        run(database, script(judge), samples=0)


def test_a_run_that_was_stopped_continues(any_database: Database) -> None:
    fill(any_database)
    calls = 0

    def dies(question: str) -> str:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyError("a fault of ours")
        return says(sound)(question)

    with pytest.raises(KeyError):
        run(any_database, script(dies), concurrency=1)
    rest = script(says(sound))
    assert run(any_database, rest).judged == 6
    assert rest.calls.count(JUDGE) == 12 - 4 + PAIRWISE_CALLS
    assert BEFORE not in rest.calls
    other = Rubric("short", "Shorter is better.", DEFAULT_RUBRIC.criteria)
    completer_for = script(says(sound))
    assert run(any_database, completer_for, rubric=other).judged == 6
    assert completer_for.calls.count(JUDGE) == 12 + PAIRWISE_CALLS  # another rubric is another question


def test_a_failed_question_is_counted_and_the_rest_continues(database: Database) -> None:
    fill(database)

    def fails_on_three(question: str) -> str:
        if "3" in question:
            raise Unavailable("busy")
        return f"** {question}"

    report = run(database, script(says(sound), b_after=fails_on_three))
    assert (report.judged, report.failed) == (5, 1)


def test_no_judgment_at_all_raises_the_reason(database: Database) -> None:
    fill(database)

    def down(_: str) -> str:
        raise Unavailable("The server cannot be reached. Is `parley up` running?")

    with pytest.raises(Unavailable, match="parley up"):
        run(database, script(says(sound), b_after=down))
    with pytest.raises(Unavailable, match="parley up"):
        run(database, script(down))
    with pytest.raises(Invalid):
        run(database, script(says(sound)), models=(BEFORE, BEFORE))
    with pytest.raises(NotFound):
        run(database, script(says(sound)), wanted=["nobody"])


def test_a_cancelled_job_stops_everything(database: Database) -> None:
    class Cancelled(Exception):
        pass

    def stop(share: float, doing: str) -> None:
        raise Cancelled

    fill(database, 40)
    completer_for = script(says(sound))
    completer_for.delay_s = 0.01
    with pytest.raises(Cancelled):
        run(database, completer_for, report=stop, concurrency=2)
    assert len(completer_for.calls) < 20


@pytest.mark.long
def test_concurrency_limits_requests_in_flight(database: Database) -> None:
    fill(database, 12)
    completer_for = script(says(sound))
    completer_for.delay_s = 0.01
    run(database, completer_for, concurrency=3)
    assert completer_for.most_at_once <= 6  # each prompt sends requests to two models at once


def test_held_out_prompts_come_first_and_given_ids_keep_their_order(database: Database) -> None:
    fill(database)
    report = run(database, script(says(sound)), wanted=3)
    assert [row.question for row in report.rows] == ["order 0?", "order 2?", "order 4?"]
    ids = [prompt.id for prompt in prompts(database)][:2]
    assert [row.prompt_id for row in run(database, script(says(sound)), wanted=ids).rows] == ids


def test_the_judge_is_compared_with_people(any_database: Database) -> None:
    fill(any_database, 4)
    completer_for = script(says(sound))
    for i in range(4):
        shown = asyncio.run(next_battle(any_database, "ann", completer_for, [BEFORE, AFTER]))
        better = "left" if shown.left.startswith("**") else "right"
        worse = "right" if better == "left" else "left"
        cast_vote(any_database, shown.id, "ann", [better, better, worse, "tie"][i])
    agreement = run(any_database, completer_for).agreement
    assert agreement is not None
    assert (agreement.n, agreement.with_ties, agreement.decisive) == (4, 0.5, 3)
    assert agreement.without_ties == pytest.approx(2 / 3)


def test_agreement_is_corrected_for_chance() -> None:
    assert agreement([]) is None
    perfect = agreement([("a", "a"), ("b", "b"), ("tie", "tie")])
    assert perfect is not None
    assert (perfect.kappa, perfect.without_ties) == (1.0, 1.0)
    chance = agreement([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")])
    assert chance is not None
    assert chance.kappa == 0.0
    constant = agreement([("a", "a"), ("a", "a")])
    assert constant is not None
    assert constant.kappa is None


def test_orders_are_combined() -> None:
    assert combine_orders("a", "a") == ("a", True)
    assert combine_orders("a", "b") == combine_orders("a", "tie") == ("tie", False)
    assert combine_orders(None, "b") == (None, None)


def test_grades(any_database: Database) -> None:
    fill(any_database)

    def grade(question: str) -> str:
        stars = min(question.count("*"), 5)
        return "no idea" if "order 1?" in question else pointwise_answer("fine", GRADES, stars)

    completer_for: Any = script(grade)
    before, after = asyncio.run(grade_models(any_database, completer_for, JudgeRequest(JUDGE, (BEFORE, AFTER))))
    assert (before.mean, after.mean) == (1.0, 2.0)
    assert (before.graded, before.unparsed) == (5, 1)
    assert after.scores == dict.fromkeys(DEFAULT_RUBRIC.criteria, 3.0)
    mirrored, _ = asyncio.run(grade_models(any_database, script(grade), JudgeRequest(JUDGE, (AFTER, BEFORE))))
    assert mirrored == after


def test_requests_constrain_the_judge_to_the_json_schema(database: Database) -> None:
    fill(database, 1)
    requests: list[dict[str, Any]] = []
    inner = script(says(sound))

    def completer_for(model: str) -> Completer:
        complete = inner(model)

        async def recorded(messages, **options):
            if model == JUDGE:
                requests.append(options)
            return await complete(messages, **options)

        return recorded

    run(database, completer_for)
    assert requests
    assert all(options["response_format"]["type"] == "json_schema" for options in requests)
    assert all(options["temperature"] == 0.0 for options in requests)
