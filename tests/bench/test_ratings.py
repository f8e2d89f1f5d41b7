"""The ratings bench runs small, and says what it found as its last line."""

import json
from functools import partial

import pytest

from bench import ratings


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratings, "WORLDS", ratings.WORLDS[:2])
    monkeypatch.setattr(ratings, "DUELS", ratings.DUELS[:1])
    monkeypatch.setattr(ratings, "timed", partial(ratings.timed, votes=20_000, models=20, repeats=1))
    assert ratings.main(["--runs", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"seconds_2m_codes", "seconds_2m_clustered", "coverage", "peeking"} <= found.keys()
    assert sum(found["peeking"][0]["ended"].values()) == pytest.approx(1)
