"""Tables and charts of a verdict: for whom it holds stands beside the rate."""

import pytest

from evals.ratings.verdict import compare
from evals.ratings.verdict_types import Verdict
from evals.reports.rating_tables import duel_plot, scope_cells, scope_notes
from evals.votes.votes import from_rows


def verdict(voters: int, margin: float = 0.05) -> Verdict:
    """40 prompts for each voter, who prefers "new" on about three quarters."""
    rows = [("new", "old", float((p + v) % 4 > 0), p, v) for v in range(voters) for p in range(40)]
    return compare(from_rows(rows), "new", "old", margin)


@pytest.mark.parametrize(
    ("voters", "names", "second"),
    [
        (1, ["this one person", "people like them"], "4 more voters are needed"),
        (4, ["these 4 people", "people like them"], "1 more voter is needed"),
        (8, ["these 8 people", "people like them"], "better"),
    ],
)
def test_each_scope_has_its_state(voters: int, names: list[str], second: str) -> None:
    head, *rows = scope_cells(verdict(voters, margin=0.1))
    assert head[-1] == "At least as good (within 10 points)"
    assert [row[0] for row in rows] == names
    assert rows[1][1] == second


def test_the_notes_of_a_chart_say_for_whom() -> None:
    these, others = scope_notes(verdict(8))
    assert these.startswith("For these 8 people: better (95 % interval ")
    assert others.startswith("For people like them: better (95 % interval ")
    assert others.endswith("at least as good: yes.")
    assert scope_notes(verdict(4))[1] == "For people like them: 1 more voter is needed."


def test_a_chart_has_both_intervals_and_the_margin_of_the_verdict() -> None:
    plot = duel_plot(verdict(8, margin=0.1), ())
    assert [row.name for row in plot.rows] == ["all prompts", "these 8 people only"]
    assert plot.band == pytest.approx((40, 60))
    assert [row.name for row in duel_plot(verdict(4), ()).rows] == ["all prompts"]
