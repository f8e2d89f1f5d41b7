"""The Leaderboard tab's HTML: the numbers behind the ratings, and escaped names."""

import pytest

from evals.ratings.leaderboard import rank
from evals.votes.votes import from_rows
from ui.look.plots import win_rate_plot
from ui.owners.leaderboard.html import evidence_html, ratings_table, verdict_html


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


def test_models_without_enough_votes_are_in_a_separate_block() -> None:
    rows = [("new", "old", (1.0, 1.0, 0.0, 0.5)[i % 4], i // 2, i % 2) for i in range(80)]
    rows += [("new", "fresh", 1.0, i, 0) for i in range(5)]
    ranked = rank(from_rows(rows))
    html = ratings_table(ranked)
    assert html.index(">old<") < html.index("Too few votes for a rank") < html.index(">fresh<")
    assert "<td class='num'>—</td><th scope='row'>fresh</th>" in html
    nobody = rank(from_rows(rows[:6]))
    shown = verdict_html(nobody) + ratings_table(nobody)
    assert shown.lower().count("not enough evidence") == 1  # the verdict says it, and no row repeats it
    assert shown.count("Too few votes for a rank") == 1


def test_the_matrix_has_counts_and_is_pale_where_they_are_few() -> None:
    rows = [("a", "b", 1.0, i, 0) for i in range(60)] + [("a", "c", 1.0, i, 0) for i in range(3)]
    ranked = rank(from_rows(rows))
    names = [row.model for row in ranked.rows]
    cells = win_rate_plot(names, ranked.win_rates, ranked.comparisons).data[0]
    a, b, c = (names.index(name) for name in "abc")
    assert cells.text[a][b] == "100 %<br>of 60"
    assert cells.text[a][c] == "100 %<br>of 3"
    assert cells.z[a][b] == 1
    assert cells.z[a][c] == pytest.approx(0.55)
    assert cells.z[b][c] is None
