"""A judge held against stored votes: what it has not judged is asked, and few votes go far with its verdicts."""

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
    """Votes for the answer with more stars, but for the last `wrong` battles."""
    for i in range(battles):
        shown = asyncio.run(next_battle(database, voter, completer_for, [BEFORE, AFTER]))
        better, worse = ("left", "right") if shown.left.startswith("**") else ("right", "left")
        cast_vote(database, shown.id, voter, worse if i >= battles - wrong else better)


@pytest.mark.long
def test_calibration_judges_the_voted_pairs_and_compares_them(any_database: Database) -> None:
    fill(any_database, 8)
    asked = script(says(sound))
    vote(any_database, asked, 6, wrong=1)
    vote(any_database, asked, 3, wrong=0, voter="bo")
    before = asked.asked.count(JUDGE)
    found = asyncio.run(calibrate(any_database, asked, CalibrationRequest(JUDGE)))
    whole = found.groups[0]
    assert (found.judged, found.unparsed, found.failed) == (found.voted, 0, 0)
    assert asked.asked.count(JUDGE) - before == 2 * found.voted
    assert (whole.votes, whole.voters) == (9, 2)
    assert whole.with_ties.value == pytest.approx(8 / 9)
    assert [one.category for one in found.groups] == [None, "orders"]
    assert "not known" in found.summary
    json.dumps(found.to_json(), allow_nan=False)
    # Nothing is asked a second time, and nothing at all where that is not wanted.
    asyncio.run(calibrate(any_database, None, CalibrationRequest(JUDGE)))
    assert asyncio.run(calibrate(any_database, asked, CalibrationRequest(JUDGE))) == found
    assert asked.asked.count(JUDGE) - before == 2 * found.voted


def test_a_judge_without_verdicts_has_no_agreement(database: Database) -> None:
    with pytest.raises(NotFound, match="Nobody has voted"):
        asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    fill(database)
    vote(database, script(says(sound)), 2, wrong=0)
    found = asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    assert (found.voted, found.judged, found.groups) == (2, 0, ())
    assert "It has judged 0 of the 2 pairs" in found.summary


@pytest.mark.long
def test_few_votes_and_many_verdicts_combine_into_one_win_rate(database: Database) -> None:
    add_prompts(database, [{"prompt": f"order {i}?", "held_out": True} for i in range(60)], "test")
    told = {BEFORE: lambda q: ("** " if int(q[6:-1]) % 3 == 0 else "* ") + q, AFTER: lambda q: "** "[1:] + q + "!"}
    asked = Scripted(told | {JUDGE: says(sound)})
    vote(database, asked, 25, wrong=3)
    report = asyncio.run(judge_models(database, asked, JudgeRequest(JUDGE, (BEFORE, AFTER))))
    assert report.powered is not None
    assert (report.powered.labelled, report.powered.unlabelled) == (25, 35)
    assert report.powered.high - report.powered.low <= report.powered.people_high - report.powered.people_low
    assert "People are estimated to prefer" in report.summary
    assert report.people[0].votes == 25
    assert "two voters" in report.trust or "not known" in report.trust
    turned = asyncio.run(judge_models(database, asked, JudgeRequest(JUDGE, (AFTER, BEFORE))))
    assert turned.powered is not None
    assert turned.powered.mean == pytest.approx(1 - report.powered.mean)
    found = asyncio.run(calibrate(database, None, CalibrationRequest(JUDGE)))
    assert [(one.model_a, one.model_b) for one in found.win_rates] == [(BEFORE, AFTER)]
    assert found.win_rates[0].found.mean == pytest.approx(report.powered.mean)
