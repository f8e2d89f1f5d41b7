"""Small, seeded simulations of few voters; `python -m bench.verdicts` runs the full ones."""

import json

import numpy as np
import pytest

from bench.verdicts.__main__ import main
from bench.verdicts.coverage import coverage
from bench.verdicts.optional_stopping import call_rates
from evals.ratings.simulated_votes import World, draw, with_win_rate
from evals.ratings.voter_means import Cells, from_sums, voter_mean


@pytest.mark.parametrize("sharing", ["even", "uneven", "one has 60 %"])
def test_the_sums_of_a_table_are_those_of_its_votes(sharing) -> None:
    (tables,) = draw(World(7, 25, 1.0, 1.0, sharing, ties=0.2), 3, seed=1)
    verdicts = from_sums(tables.sums())
    for run in range(3):
        voter, prompt = np.nonzero(tables.cast[run])
        alone = voter_mean(Cells(tables.score[run][voter, prompt], np.unique(prompt, return_inverse=True)[1], voter))
        for name in ("mean", "votes", "voters", "prompts", "variance", "own_variance", "freedom", "own_freedom"):
            assert getattr(alone, name) == pytest.approx(getattr(verdicts, name)[run]), name


@pytest.mark.parametrize("world", [World(8, 20, 1.0, 1.0), World(5, 40, 1.0, 0.0, "one has 60 %")], ids=str)
def test_intervals_cover_what_they_speak_of(world: World) -> None:
    # 93 % is promised; 400 runs leave room for chance. By prompts alone 60 % were covered.
    covered = coverage(world, 400, seed=3)
    assert covered.these_people.covered >= 0.91
    assert covered.people_like_them is not None
    assert covered.people_like_them.covered >= 0.91
    assert covered.people_like_them.width < 1.7


@pytest.mark.long
def test_reading_after_every_vote_is_seldom_wrong() -> None:
    rates = call_rates(World(8, 40, 1.0, 0.0), 200, 320, seed=2)
    assert rates.wrong == rates.called <= 0.05
    assert rates.own_wrong <= 0.05


def test_a_true_difference_is_called() -> None:
    rates = call_rates(with_win_rate(World(20, 40, 0.5, 0.5), 0.7), 50, 400, seed=2)
    assert rates.called > 0.8
    assert rates.wrong == 0.0


def test_the_command_reports_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "2", "--parts", "leaderboard", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(report["leaderboard"]) == 8
    assert 0 <= report["leaderboard_covered_least"] <= 1
