"""The Leaderboard tab's HTML: the numbers behind the ratings, and escaped names."""

from evals.ratings.leaderboard import rank
from evals.votes.votes import from_rows
from ui.owners.leaderboard.html import evidence_html


def board(models: tuple[str, str] = ("new", "old")):
    rows = [(*models, (1.0, 1.0, 0.0, 0.5)[i % 4], i // 2, i % 2) for i in range(80)]
    return rank(from_rows(rows))


def test_ties_agreement_and_the_votes_that_would_change_the_leader() -> None:
    html = evidence_html(board())
    assert "25%" in html
    assert "agreement between two people, on 40 pairs" in html
    assert "of 80 votes, if reversed" in html
    assert html.count("class='fact'") <= 4
    assert "Win rates by category" not in html  # there is one category


def test_names_are_escaped() -> None:
    assert "<img" not in evidence_html(board(("<img src=x>", "b")))


def test_no_votes() -> None:
    assert "fact'" not in evidence_html(rank(from_rows([])))
