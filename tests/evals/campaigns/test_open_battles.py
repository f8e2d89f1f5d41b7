"""Blind battles and votes: nothing leaks before the vote, nothing counts twice, on SQLite and PostgreSQL."""

import asyncio
import dataclasses
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, func, select

from evals.campaigns.ballots import CHOICES, cast_vote, votes_by
from evals.campaigns.battles import BattleOptions
from evals.ratings.leaderboard import leaderboard
from evals.ratings.verdict import verdict
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.preference_pairs import preferences
from evals.votes.prompts import add_prompts, prompts
from evals.votes.vote_export import vote_rows, write_rows
from evals.votes.vote_import import import_votes
from evals.votes.votes import VoteSelection, read_votes, stored_votes
from models.database import Database
from models.errors import Invalid, NotFound, Unavailable
from tests.evals.battles import next_battle
from tests.evals.scripted import Scripted, echo

MODELS = ["model-one", "model-two", "model-three"]


def fill(database: Database, n: int = 6) -> None:
    add_prompts(database, [{"prompt": f"Where is order {i}?", "category": "orders"} for i in range(n)], "test")


def battle(database: Database, voter: str = "ann", models: list[str] | None = None, **options):
    models = models or MODELS
    completer_for = options.pop("completer_for", None) or echo(*models)
    return asyncio.run(next_battle(database, voter, completer_for, models, BattleOptions(**options)))


def rows(database: Database, table) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_battle_names_no_model_and_the_vote_reveals(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    assert {field.name for field in dataclasses.fields(shown)} == {"id", "messages", "left", "right"}
    assert not any(model in repr(shown) for model in MODELS)
    assert len(shown.id) >= 32
    reveal = cast_vote(any_database, shown.id, "ann", "left")
    answers = {model: echo(*MODELS)(model) for model in MODELS}
    assert asyncio.run(answers[reveal.left_model](shown.messages)).text == shown.left
    assert asyncio.run(answers[reveal.right_model](shown.messages)).text == shown.right
    assert reveal.votes_by_voter == 1


def test_a_repeated_vote_keeps_the_first(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    first = cast_vote(any_database, shown.id, "ann", "both_bad")
    assert cast_vote(any_database, shown.id, "ann", "left") == dataclasses.replace(first, repeated=True)
    assert votes_by(any_database, "ann") == rows(any_database, VoteRow) == 1


def test_another_voters_battle_looks_like_a_missing_one(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    with pytest.raises(NotFound) as mine:
        cast_vote(any_database, shown.id, "bob", "left")
    with pytest.raises(NotFound) as nobodys:
        cast_vote(any_database, "no-such-battle", "bob", "left")
    assert str(mine.value) == str(nobodys.value)
    with pytest.raises(Invalid):
        cast_vote(any_database, shown.id, "ann", "middle")  # type: ignore[arg-type] # what a forged page sends
    assert rows(any_database, VoteRow) == 0


@pytest.mark.long
def test_concurrent_clicks_are_one_vote(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    with ThreadPoolExecutor(16) as pool:
        reveals = list(pool.map(lambda i: cast_vote(any_database, shown.id, "ann", CHOICES[i % 4]), range(100)))
    assert [reveal.repeated for reveal in reveals].count(False) == 1
    assert len({dataclasses.replace(reveal, repeated=False) for reveal in reveals}) == 1
    assert rows(any_database, VoteRow) == 1


@pytest.mark.long
def test_many_voters_at_once_lose_nothing(any_database: Database) -> None:
    fill(any_database, 4)

    def vote(i: int) -> str:
        shown = battle(any_database, f"voter-{i}")
        cast_vote(any_database, shown.id, f"voter-{i}", "right")
        return shown.id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(vote, range(40)))
    assert len(set(ids)) == rows(any_database, VoteRow) == rows(any_database, BattleRow) == 40


@pytest.mark.long
def test_pairs_of_models_stay_even_and_sides_are_mixed(database: Database) -> None:
    fill(database, 8)
    pairs: Counter[frozenset[str]] = Counter()
    left: Counter[str] = Counter()
    for i in range(60):
        shown = battle(database, f"voter-{i % 5}", seed=i)
        reveal = cast_vote(database, shown.id, f"voter-{i % 5}", "tie")
        pairs[frozenset((reveal.left_model, reveal.right_model))] += 1
        left[reveal.left_model] += 1
    assert set(pairs.values()) == {20}
    assert all(8 <= left[model] <= 32 for model in MODELS)


def test_prompts_are_balanced_and_not_repeated_to_a_voter(database: Database) -> None:
    fill(database, 6)
    questions = [battle(database, "ann", MODELS[:2]).messages[0].content for _ in range(6)]
    assert len(set(questions)) == 6
    battle(database, "ann", MODELS[:2])  # all pairs shown: continues with fresh answers
    assert rows(database, PairRow) == 7


def test_a_stored_pair_is_reused_for_the_next_voter(database: Database) -> None:
    fill(database, 1)
    first = battle(database, "ann", MODELS[:2])
    completer_for = echo(*MODELS[:2])
    second = battle(database, "bob", MODELS[:2], completer_for=completer_for)
    assert completer_for.calls == []
    assert {first.left, first.right} == {second.left, second.right}
    assert first.id != second.id
    assert rows(database, PairRow) == 1


def test_a_typed_prompt_is_shown_to_no_other_rater(any_database: Database) -> None:
    shown = battle(any_database, prompt="  My own question  ")
    assert shown.messages[0].content == "My own question"
    assert [prompt.source for prompt in prompts(any_database, typed=True)] == ["typed"]
    assert prompts(any_database) == []
    with pytest.raises(NotFound, match="no prompts yet"):
        battle(any_database, "bob")
    with pytest.raises(Invalid):
        battle(any_database, prompt="   ")


@pytest.mark.long
def test_two_raters_type_the_same_question_at_once(any_database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: battle(any_database, f"voter-{i}", prompt="The same?"), range(16)))
    assert rows(any_database, PromptRow) == 1
    assert rows(any_database, PairRow) == 16


def test_both_models_are_requested_concurrently(database: Database) -> None:
    fill(database)
    completer_for = echo(*MODELS[:2], delay_s=0.05)
    battle(database, models=MODELS[:2], completer_for=completer_for)
    assert completer_for.most_at_once == 2


def broken(_: str) -> str:
    raise Unavailable("The model model-one is starting.", retry_after=7)


@pytest.mark.parametrize("fault", [broken, lambda _: "  \n"], ids=["failed", "empty"])
def test_a_model_that_fails_is_not_named_and_leaves_nothing(any_database: Database, fault) -> None:
    fill(any_database)
    completer_for = Scripted({"model-one": fault, "model-two": lambda q: q})
    with pytest.raises(Unavailable) as error:
        battle(any_database, models=MODELS[:2], completer_for=completer_for)
    text = json.dumps(error.value.body()) + str(error.value.__cause__)
    assert not any(model in text for model in MODELS)
    assert error.value.retry_after
    assert rows(any_database, PairRow) == rows(any_database, BattleRow) == 0


def test_fewer_than_two_models_are_refused(database: Database) -> None:
    fill(database)
    with pytest.raises(Invalid, match="two models"):
        battle(database, models=["model-one", "model-one"])


def vote_much(database: Database, times: int, share: float, models: list[str] | None = None) -> list[str]:
    """The pairs that one voter was shown, in order."""
    pair_ids = []
    for seed in range(times):
        shown = battle(database, models=models or MODELS[:2], seed=seed, repeat_share=share)
        cast_vote(database, shown.id, "ann", "left")
        with database.read() as session:
            pair_ids.append(session.get_one(BattleRow, shown.id).pair_id)
    return pair_ids


@pytest.mark.long
def test_a_share_of_pairs_comes_again_once_and_much_later(any_database: Database) -> None:
    fill(any_database, 60)
    pair_ids = vote_much(any_database, 60, 0.3)
    repeated = {
        pair: [i for i, pair_id in enumerate(pair_ids) if pair_id == pair]
        for pair in pair_ids
        if pair_ids.count(pair) > 1
    }
    assert 8 <= len(repeated) <= 30
    for places in repeated.values():
        assert len(places) == 2
        assert places[1] - places[0] > 10
    with any_database.read() as session:
        again = list(session.scalars(select(BattleRow).where(BattleRow.again.is_(True))))
        sides = {(row.pair_id, row.flipped) for row in session.scalars(select(BattleRow))}
    assert len(again) == len(repeated)
    assert any((row.pair_id, not row.flipped) in sides for row in again)  # some come with their sides swapped


@pytest.mark.long
def test_a_repeat_counts_for_self_consistency_and_in_no_rating(database: Database) -> None:
    fill(database, 60)
    pair_ids = vote_much(database, 50, 0.3)
    repeats = len(pair_ids) - len(set(pair_ids))
    assert len(read_votes(database)) == len(set(pair_ids))
    assert len(stored_votes(database, VoteSelection(repeats=True)).votes) == len(pair_ids)
    board = leaderboard(database)
    assert (board.votes, sum(row.votes for row in board.rows)) == (len(set(pair_ids)), 2 * len(set(pair_ids)))
    assert board.agreement is not None
    assert board.agreement.repeats == repeats > 0
    assert 0 < board.agreement.self_consistency < 1  # always the left answer: the sides were swapped for some
    assert verdict(database, *MODELS[:2]).votes == len(set(pair_ids))
    assert sum(row["again"] for row in vote_rows(database)) == repeats
    assert sum(row["votes"] for row in preferences(database)) == len(set(pair_ids))


@pytest.mark.long
def test_pairs_repeat_only_if_enabled_and_served(database: Database) -> None:
    fill(database, 30)
    pair_ids = vote_much(database, 25, 0.0)
    assert len(set(pair_ids)) == 25
    others = ["model-two", "model-three"]
    assert not set(vote_much(database, 8, 1.0, others)) & set(pair_ids)


@pytest.mark.long
def test_repeats_survive_export_and_import(database: Database, tmp_path, home) -> None:
    fill(database, 60)
    pair_ids = vote_much(database, 40, 0.4)
    write_rows(vote_rows(database), tmp_path / "votes.csv")
    with database.write() as session:
        for table in (VoteRow, BattleRow):
            session.execute(delete(table))
    import_votes(database, tmp_path / "votes.csv")
    assert len(read_votes(database)) == len(set(pair_ids)) < len(pair_ids)
    assert len(stored_votes(database, VoteSelection(repeats=True)).votes) == len(pair_ids)
