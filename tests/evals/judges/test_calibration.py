"""A judge compared with stored votes: missing verdicts are requested, and they make a few votes count for more."""

import asyncio
import json

import pytest

from evals.campaigns.ballots import cast_vote
from evals.judges.calibration import CalibrationRequest, calibrate
from evals.judges.pairwise import judge_models
from evals.judges.request import JudgeRequest
from evals.votes.prompts import add_prompts
from models.database import Database
from models.errors import NotFound
from tests.evals.battles import next_battle
from tests.evals.judges.test_pairwise import AFTER, BEFORE, JUDGE, fill, says, script, sound
from tests.evals.scripted import Scripted


def vote(database: Database, completer_for: Scripted, battles: int, wrong: int, voter: str = "ann") -> None:
    """Votes for the answer with more stars, except in the last `wrong` battles."""
    for i in range(battles):
        shown = asyncio.run(next_battle(database, voter, completer_for, [BEFORE, AFTER]))
        better, worse = ("left", "right") if shown.left.startswith("**") else ("right", "left")
        cast_vote(database, shown.id, voter, worse if i >= battles - wrong else better)


@pytest.mark.long
def test_calibration_judges_the_voted_pairs_and_compares_them(any_database: Database) -> None:
    fill(any_database, 8)
    completer_for = script(says(sound))
    vote(any_database, completer_for, 6, wrong=1)
    vote(any_database, completer_for, 3, wrong=0, voter="bo")
    before = completer_for.calls.count(JUDGE)
    report = asyncio.run(calibrate(any_database, completer_for, CalibrationRequest(JUDGE)))
    whole = report.groups[0]
    assert (report.judged, report.unparsed, report.failed) == (report.voted, 0, 0)
    assert completer_for.calls.count(JUDGE) - before == 2 * report.voted
    assert (whole.votes, whole.voters) == (9, 2)
    assert whole.with_ties.value == pytest.approx(8 / 9)
    assert [group.category for group in report.groups] == [None, "orders"]
    assert "not known" in report.summary
    json.dumps(report.to_json(), allow_nan=False)
    # Nothing is requested twice, and nothing at all without a completer.
    asyncio.run(calibrate(any_database, None, CalibrationRequest(JUDGE)))
    assert asyncio.run(calibrate(any_database, completer_for, CalibrationRequest(JUDGE))) == report
    assert completer_for.calls.count(JUDGE) - before == 2 * report.voted


def test_a_judge_without_verdicts_has_no_agreement(database: Database) -> None:
    with pytest.raises(NotFound, match="Nobody has voted"):
        asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    fill(database)
    vote(database, script(says(sound)), 2, wrong=0)
    report = asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    assert (report.voted, report.judged, report.groups) == (2, 0, ())
    assert "It has judged 0 of the 2 pairs" in report.summary


@pytest.mark.long
def test_few_votes_and_many_verdicts_combine_into_one_win_rate(database: Database) -> None:
    add_prompts(database, [{"prompt": f"order {i}?", "held_out": True} for i in range(60)], "test")
    answers = {BEFORE: lambda q: ("** " if int(q[6:-1]) % 3 == 0 else "* ") + q, AFTER: lambda q: "** "[1:] + q + "!"}
    completer_for = Scripted(answers | {JUDGE: says(sound)})
    vote(database, completer_for, 25, wrong=3)
    report = asyncio.run(judge_models(database, completer_for, JudgeRequest(JUDGE, (BEFORE, AFTER))))
    assert report.powered is not None
    assert (report.powered.labelled, report.powered.unlabelled) == (25, 35)
    assert report.powered.high - report.powered.low <= report.powered.people_high - report.powered.people_low
    assert "People are estimated to prefer" in report.summary
    assert report.people[0].votes == 25
    assert "two voters" in report.trust or "not known" in report.trust
    turned = asyncio.run(judge_models(database, completer_for, JudgeRequest(JUDGE, (AFTER, BEFORE))))
    assert turned.powered is not None
    assert turned.powered.mean == pytest.approx(1 - report.powered.mean)
    calibration = asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    assert [(rate.model_a, rate.model_b) for rate in calibration.win_rates] == [(BEFORE, AFTER)]
    assert calibration.win_rates[0].found.mean == pytest.approx(report.powered.mean)
