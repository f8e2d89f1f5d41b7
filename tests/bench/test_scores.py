"""A small run of the scores' coverage bench: intervals contain the truth about as often as they claim."""

import json

import pytest

from bench.scores import ScoreSimulation, coverage, main


@pytest.mark.parametrize(
    "world", [ScoreSimulation(50, 0.6, 0.7, 0.5), ScoreSimulation(200, 0.6, 0.7, 0.5, group=10, luck=0.5)]
)
def test_intervals_hold_the_truth(world: ScoreSimulation) -> None:
    assert 0.91 <= coverage(world, 300).covered <= 0.99


def test_it_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "5", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["coverage"]) == 14
