"""A small run of the judges' benchmark, whose simulated worlds match their descriptions."""

import json

import numpy as np
import pytest

from bench.judges import JudgeSimulation, _at_the_margin, main, ppi_coverage, trust


def test_json_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"ppi", "kappa", "trust", "seconds"} == set(result)
    assert all(0 <= row["covered"] <= 1 for row in result["ppi"])


def test_a_good_judge_narrows_the_interval_and_a_guessing_one_does_not() -> None:
    rng = np.random.default_rng(0)
    good = ppi_coverage(JudgeSimulation(50, 500, 0.9), 40, rng)
    none = ppi_coverage(JudgeSimulation(50, 500, 0.0), 40, rng)
    assert good.width < 0.6 * good.width_people
    assert 0.95 < none.width / none.width_people <= 1.0


def test_the_judge_at_the_margin() -> None:
    trusted = trust(30, 2, _at_the_margin(0.8), 0.8, 2, np.random.default_rng(0))
    assert trusted.gap == pytest.approx(-0.1)
