"""The Leaderboard tab's HTML: what stands behind the ratings, short, and safe against what people call things."""

from evals.ratings.leaderboard import rank
from evals.votes.votes import from_rows
from ui.owners.leaderboard.tab import behind


def board(models: tuple[str, str] = ("new", "old")):
    rows = [(*models, (1.0, 1.0, 0.0, 0.5)[i % 4], i // 2, i % 2) for i in range(80)]
    return rank(from_rows(rows))


def test_ties_agreement_and_what_would_turn_it() -> None:
    html = behind(board())
    assert "25%" in html
    assert "agreement of two people, on 40 pairs" in html
    assert "of 80 votes turned round" in html
    assert html.count("class='fact'") <= 4
    assert "Win rates by category" not in html  # there is one category


def test_names_are_escaped() -> None:
    assert "<img" not in behind(board(("<img src=x>", "b")))


def test_no_votes() -> None:
    assert "fact'" not in behind(rank(from_rows([])))
