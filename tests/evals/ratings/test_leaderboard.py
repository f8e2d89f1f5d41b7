"""From stored votes to a leaderboard: the right winner from either side, and "not enough evidence"."""

import asyncio
import json

import pytest

from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import BattleOptions
from evals.ratings.leaderboard import leaderboard, rank
from evals.votes.prompts import add_prompts
from evals.votes.votes import first_score, from_rows, read_votes
from models.database import Database
from tests.evals.battles import next_battle
from tests.evals.scripted import Scripted

MODELS = ["good", "middle", "poor"]


def vote(database: Database, n: int, voters: int = 3) -> None:
    """Voters who always take the better model."""
    completer_for = Scripted({model: lambda q, model=model: f"{MODELS.index(model)} {q}" for model in MODELS})
    for i in range(n):
        shown = asyncio.run(next_battle(database, f"v{i % voters}", completer_for, MODELS, BattleOptions(seed=i)))
        choice = "left" if shown.left[0] < shown.right[0] else "right"
        cast_vote(database, shown.id, f"v{i % voters}", choice if i % 5 else "both_bad")


@pytest.mark.long
def test_votes_become_a_leaderboard(any_database: Database) -> None:
    rows = [{"prompt": f"Question {i}", "category": "even" if i % 2 == 0 else "odd"} for i in range(30)]
    add_prompts(any_database, rows, "test")
    empty = leaderboard(any_database)
    assert (empty.rows, empty.enough) == ((), False)
    assert "no votes" in empty.verdict
    vote(any_database, 90)
    board = leaderboard(any_database)
    assert [row.model for row in board.rows] == MODELS
    assert (board.votes, board.prompts, board.voters, board.enough) == (90, 30, 3, True)
    assert board.tie_rate == pytest.approx(0.2)
    first = board.rows[0]
    assert first.wins + first.losses + first.ties == first.votes == 60
    assert (first.losses, first.rank_low, first.rank_high, first.enough) == (0, 1, 1, True)
    assert board.win_rates[0][0] is None
    assert board.win_rates[0][1] == pytest.approx(1 - (board.win_rates[1][0] or 0))
    assert board.verdict.startswith("For these people, good leads")
    assert json.loads(json.dumps(board.to_json()))["rows"][0]["model"] == "good"
    even = leaderboard(any_database, category="even")
    assert 0 < even.votes < 90
    assert even.prompts == 15


def test_flipping_sides_flips_the_score() -> None:
    assert [first_score("left", False), first_score("right", False)] == [1.0, 0.0]
    assert [first_score("left", True), first_score("right", True)] == [0.0, 1.0]
    assert {first_score(tie, flip) for tie in ("tie", "both_bad") for flip in (True, False)} == {0.5}


@pytest.mark.long
def test_few_votes_are_not_enough(database: Database) -> None:
    add_prompts(database, [{"prompt": f"Question {i}"} for i in range(30)], "test")
    vote(database, 9)
    board = leaderboard(database)
    assert not board.enough
    assert not any(row.enough for row in board.rows)
    assert board.verdict.startswith("Not enough evidence")
    assert board.votes_needed == 36
    assert len(read_votes(database)) == 9


def test_models_that_were_never_compared_are_not_ranked() -> None:
    rows = [(*pair, float(i % 3 > 0), i, i) for i in range(60) for pair in (("a", "b"), ("c", "d"))]
    board = rank(from_rows(rows))
    assert not board.enough
    assert "2 groups" in board.verdict
    assert all(row.rank_high >= 3 for row in board.rows)


def test_a_tight_race_names_its_rivals() -> None:
    rows = [("a", "b", float(i % 2 or i == 0), i, i % 50) for i in range(60)]
    board = rank(from_rows(rows))
    assert board.enough
    assert "may be as good" in board.verdict
    assert "Not enough evidence yet" in board.verdict


def test_a_cycle_is_called_a_cycle() -> None:
    pairs = (("stone", "scissors"), ("scissors", "paper"), ("paper", "stone"))
    rows = [(a, b, float((v + p) % 5 > 0), p, f"v{v}") for a, b in pairs for p in range(20) for v in range(10)]
    board = rank(from_rows(rows))
    assert sorted(board.cycle) == ["paper", "scissors", "stone"]
    assert "this is a cycle" in board.verdict
    assert "leads" not in board.verdict
    ordered = [(a, b, float((v + p) % 5 > 0), p, f"v{v}") for a, b in pairs[:2] for p in range(20) for v in range(10)]
    assert rank(from_rows(ordered)).cycle == ()


def test_a_lead_from_all_votes_is_not_contradicted() -> None:
    rows = [("good", "poor", float(v % 10 > 0), p, v) for p in range(40) for v in range(20)]
    rows += [("middle", "poor", float((v + p) % 2), p, v) for p in range(40) for v in range(20)]
    rows += [("good", "middle", float(p % 3 > 0), p, 0) for p in range(3)]
    board = rank(from_rows(rows))
    assert board.verdict.startswith("good leads")
    assert "Not enough evidence" not in board.verdict
    assert "votes on other models add evidence" in board.verdict


def test_few_voters_speak_for_themselves() -> None:
    rows = [("a", "b", float(p % 4 > 0), p, v) for p in range(40) for v in range(4)]
    board = rank(from_rows(rows))
    assert (board.scope, board.clustered_by) == ("these people", "prompt")
    assert (
        "This is about these 4 people only. There is not enough evidence about other people: at least 1 more"
        in board.verdict
    )
    more = rank(from_rows([*rows, *(("a", "b", float(p % 4 > 0), p, 4) for p in range(40))]))
    assert (more.scope, more.clustered_by) == ("people like them", "prompt and voter")
    assert "people only" not in more.verdict


def test_a_voter_with_most_votes_is_named_and_weighs_like_others() -> None:
    rows = [("a", "b", 1.0, p, "diligent") for p in range(100)]
    rows += [("a", "b", 0.0, p, f"v{v}") for p in range(10) for v in range(5)]
    board = rank(from_rows(rows))
    assert board.rows[0].model == "b"
    assert board.frequent_voter == "diligent"
    assert any("diligent cast at least half of the votes" in note for note in board.notes)


def test_equal_models_and_undecided_leads_are_worded_without_contradiction() -> None:
    def people(count: int, score: float, prompts: int = 40) -> list[tuple[str, str, float, int, str]]:
        return [("new", "old", score, prompt, f"v{i}") for i in range(count) for prompt in range(prompts)]

    assert rank(from_rows(people(3, 0.5))).verdict.startswith(
        "new and old have the same rating. Head to head: For these 3"
    )
    mixed = [(a, b, 0.0 if prompt % 10 < 3 else 1.0, prompt, who) for a, b, _, prompt, who in people(1, 1.0)]
    alone = rank(from_rows(mixed)).verdict
    assert alone.startswith(
        "For this one person, new has the higher rating. Head to head: For this one person, there is"
    )
    assert "leads" not in alone
    both = rank(from_rows(people(2, 1.0)))
    assert both.verdict.startswith("For these people, new leads")
    assert "v0 and v1 each cast half of the votes." in both.verdict
    assert both.frequent_voter is None
