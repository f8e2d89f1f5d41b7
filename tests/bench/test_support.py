"""bench/evals/bitext.py and bench/support.py: the hold-out, the learned scorers, and the message without data."""

from pathlib import Path

import pytest

from bench import support
from bench.evals import bitext
from bench.evals.bitext import Request, hold_out, intent_scorer, marking_words, overlap_scorer
from evals.scorers.sample import Sample

REQUESTS = [
    Request(f"{verb} my {thing} {number}", f"To {verb} the {thing}, press the {verb} button.", f"{verb}_{thing}")
    for verb in ("cancel", "change")
    for thing in ("order", "account")
    for number in range(20)
]


def test_the_hold_out_takes_a_share_of_each_intent_without_overlap() -> None:
    parts = hold_out([*REQUESTS, *REQUESTS[:5]], 0.1, seed=0)
    assert len(parts.training) + len(parts.held_out) == 85
    assert {request.intent for request in parts.held_out} == {request.intent for request in REQUESTS}
    assert not {r.question for r in parts.training} & {r.question for r in parts.held_out}
    assert parts == hold_out([*REQUESTS, *REQUESTS[:5]], 0.1, seed=0)


def test_topic_words_and_the_intent_scorer() -> None:
    marks = marking_words(REQUESTS, 2)
    assert set(marks["cancel_order"]) == {"cancel", "order"}
    score = intent_scorer(REQUESTS)
    sample = Sample(category="cancel_order")
    assert score(sample, "Press cancel, and the order is gone.") == 1
    assert score(sample, "Press change for the account.") == 0
    assert score(sample, "") == 0


def test_overlap_is_an_f1_of_words() -> None:
    score = overlap_scorer()
    sample = Sample(expected="press the red button")
    assert score(sample, "Press the red button!") == 1
    assert score(sample, "press it") == pytest.approx(2 / 6)
    assert score(sample, "no") == 0
    assert score(Sample(), "anything") is None


def test_without_its_data_it_exits_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bitext, "FILE", tmp_path / "bitext.csv")
    assert support.main(["--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


@pytest.mark.long
@pytest.mark.skipif(not bitext.FILE.is_file(), reason="the bitext data is not beside the project")
def test_the_real_data_is_held_out_by_intent() -> None:
    requests = bitext.read_requests()
    parts = hold_out(requests, 0.1, seed=0)
    assert (len(requests), len(parts.training), len(parts.held_out)) == (4_514, 4_063, 451)
    score = intent_scorer(parts.training)
    right = sum(score(Sample(category=request.intent), request.answer) for request in parts.held_out)
    assert right / len(parts.held_out) > 0.85  # on people's own answers the scorer must be right
