"""A campaign's report: the final verdict, gold pairs, progress, and the plan before it opens."""

import json
from pathlib import Path

import pytest

from evals.campaigns.ballots import cast_vote
from evals.campaigns.gold_pairs import GoldPair, add_gold_pairs, gold_results
from evals.campaigns.lifecycle import close_campaign, open_campaign
from evals.campaigns.progress import campaign_progress
from evals.campaigns.report import campaign_plan, campaign_report
from evals.ratings.leaderboard import leaderboard
from evals.ratings.verdict import verdict
from evals.votes.votes import read_votes
from models.database import Database
from models.errors import Conflict, Invalid
from tests.evals.campaigns.campaigns import MARKED, MODELS, battle, draft, voted_campaign

PAIR = MODELS[:2]


@pytest.fixture
def voted(database: Database, tmp_path: Path) -> Database:
    """6 people prefer the first model on 20 prompts, except in one vote each."""
    return voted_campaign(database, tmp_path)


@pytest.mark.long
def test_the_verdict_is_final_when_the_campaign_closes(voted: Database) -> None:
    early = campaign_report(voted, "acceptance")
    assert (early.look, early.votes) == ("anytime", 120)
    assert "still open" in early.text
    close_campaign(voted, "acceptance")
    report = campaign_report(voted, "acceptance")
    (overall,), (tone,) = report.verdicts, report.criteria["tone"]
    assert (report.look, overall.look, overall.state, overall.planned_votes) == ("planned", "planned", "better", 120)
    assert (overall.votes, overall.win_rate) == (120, pytest.approx(0.95))
    assert (tone.win_rate, tone.state) == (0.5, "no difference worth having")
    assert json.loads(json.dumps(report.to_json()))["verdicts"][0]["state"] == "better"


@pytest.mark.long
def test_different_questions_are_never_pooled(voted: Database) -> None:
    assert len(read_votes(voted)) == 0
    assert len(read_votes(voted, campaign="acceptance")) == 120
    assert leaderboard(voted).votes == 0
    assert leaderboard(voted, campaign="acceptance").votes == 120
    assert verdict(voted, *PAIR).votes == 0
    assert verdict(voted, *PAIR, campaign="acceptance").votes == 120
    assert len(read_votes(voted, campaign="acceptance", open_links=False)) == 0


@pytest.mark.long
def test_gold_pairs_count_in_no_rating(database: Database, tmp_path: Path) -> None:
    draft(database, tmp_path, 20, PAIR, gold_share=0.5, reveal="after_vote")
    from evals.votes.prompts import prompts

    first = prompts(database, typed=True)[0]
    with pytest.raises(Invalid):
        add_gold_pairs(database, "acceptance", [GoldPair(first.id, "same", "same")])
    add_gold_pairs(database, "acceptance", [GoldPair(first.id, f"α good {i}", f"bad {i}") for i in range(2)])
    open_campaign(database, "acceptance")
    with pytest.raises(Conflict):
        add_gold_pairs(database, "acceptance", [GoldPair(first.id, "good", "bad")])
    reveals = []
    for seed in range(16):
        shown = battle(database, "ann", MARKED, seed=seed)
        choice = "left" if shown.left.startswith("α") else "right"
        reveals.append(cast_vote(database, shown.id, "ann", choice))
    assert [(each.voter, each.right, each.votes) for each in gold_results(database, "acceptance")] == [("ann", 2, 2)]
    assert sum(reveal.left_model is None for reveal in reveals) == 2
    assert len(read_votes(database, campaign="acceptance")) == 14
    assert "gold" not in json.dumps([str(reveal) for reveal in reveals])


@pytest.mark.long
def test_the_owner_sees_the_progress(voted: Database) -> None:
    progress = campaign_progress(voted, "acceptance")
    assert (progress.votes, progress.wanted, progress.voters) == (120, 120, 6)
    assert [(each.model, each.answers, each.wanted) for each in progress.prepared] == [
        ("model-one", 20, 20),
        ("model-two", 20, 20),
    ]
    assert progress.job is not None
    assert progress.leaks == {}
    assert 0.3 < (progress.left_share or 0) < 0.7
    assert json.loads(json.dumps(progress.to_json()))["votes"] == 120


def test_the_plan_estimates_power_before_opening(database: Database, tmp_path: Path) -> None:
    campaign = draft(database, tmp_path, 40, PAIR, votes_per_pair=8)
    power = campaign_plan(campaign, 8)
    assert (power.size.voters, power.size.prompts, power.votes) == (8, 40, 320)
    assert power.people_like_them is not None
    few = campaign_plan(campaign, 3)
    assert few.people_like_them is None
    assert few.text
