"""A small run of the ratings bench: its last line is the result as JSON."""

import json
from functools import partial

import pytest

from bench import ratings


@pytest.mark.long
def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratings, "WORLDS", ratings.WORLDS[:2])
    monkeypatch.setattr(ratings, "DUELS", ratings.DUELS[:1])
    for name in ("timed", "compared"):
        monkeypatch.setattr(ratings, name, partial(getattr(ratings, name), votes=20_000, models=20, repeats=1))
    assert ratings.main(["--runs", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"seconds_2m_codes", "seconds_2m_strings", "seconds_2m_clustered", "coverage", "peeking"} <= result.keys()
    assert result["elo_from_evalica"] < 0.01
    if result["arena_rank"] == "0.1.1":
        assert result["elo_from_arena_rank"] < 0.01
        assert result["interval_from_arena_rank"] < 0.05  # ours allows for small samples, and these are small
    else:
        assert result["times_faster_than_arena_rank"] is None
    assert sum(result["peeking"][0]["ended"].values()) == pytest.approx(1)
    assert result["decided_on_too_little"] == 0


def test_power_is_what_the_method_says() -> None:
    assert [(row.win_rate, row.votes) for row in ratings.power(10)] == [(0.55, 783), (0.6, 194), (0.65, 85), (0.7, 47)]
    assert all(0.76 <= row.found <= 0.84 for row in ratings.power(5_000))
