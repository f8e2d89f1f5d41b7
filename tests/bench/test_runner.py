"""A small run of the runner's bench: all figures exist and are plausible; the real-engine part needs an engine."""

import json

import pytest

from bench.runner import main, throughput
from tests.evals.upstream import AnsweringServer


@pytest.mark.long
def test_it_measures_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--samples", "12", "--concurrency", "4", "--latency-s", "0.05", "--rounds", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["over_ideal"] >= 1.0
    assert 0 < result["times_faster_share"] <= 1.2
    assert result["rounds"][0]["asking"] <= result["rounds"][0]["whole"]


@pytest.mark.long
def test_the_bare_generator_and_the_runner_count_the_same_tokens() -> None:
    with AnsweringServer(latency_s=0.01) as server:
        for turn in (0, 1):
            measured = throughput(server.address, "one", 20, 4, turn)
            assert measured.ratio == pytest.approx(measured.runner / measured.bare)
        assert len(server.asked) == 80
        assert len(set(server.asked)) == 80  # every turn has questions of its own


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--samples", "0"])
