"""Blind battles and votes: nothing leaks before the vote, nothing counts twice, on SQLite and PostgreSQL."""

import asyncio
import dataclasses
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from evals.arena import CHOICES, cast_vote, next_battle, votes_by
from evals.prompts import add_prompts, prompts
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from models.database import Database
from models.errors import Invalid, NotFound, Unavailable
from tests.evals.scripted import Scripted, echo

MODELS = ["model-one", "model-two", "model-three"]


def fill(database: Database, n: int = 6) -> None:
    add_prompts(database, [{"prompt": f"Where is order {i}?", "category": "orders"} for i in range(n)], "test")


def battle(database: Database, voter: str = "ann", models: list[str] | None = None, **options):
    models = models or MODELS
    completer_for = options.pop("completer_for", None) or echo(*models)
    return asyncio.run(next_battle(database, voter, completer_for, models, **options))


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
    assert (reveal.votes_by_voter, reveal.votes_total) == (1, 1)


def test_a_repeated_vote_keeps_the_first(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    first = cast_vote(any_database, shown.id, "ann", "both_bad")
    assert cast_vote(any_database, shown.id, "ann", "left") == first
    assert votes_by(any_database, "ann") == rows(any_database, VoteRow) == 1


def test_another_voters_battle_is_as_unknown_as_one_that_never_was(any_database: Database) -> None:
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


def test_a_hundred_clicks_at_once_are_one_vote(any_database: Database) -> None:
    fill(any_database)
    shown = battle(any_database)
    with ThreadPoolExecutor(16) as pool:
        reveals = list(pool.map(lambda i: cast_vote(any_database, shown.id, "ann", CHOICES[i % 4]), range(100)))
    assert len(set(reveals)) == 1
    assert rows(any_database, VoteRow) == 1


def test_many_voters_at_once_lose_nothing(any_database: Database) -> None:
    fill(any_database, 4)

    def vote(i: int) -> str:
        shown = battle(any_database, f"voter-{i}")
        cast_vote(any_database, shown.id, f"voter-{i}", "right")
        return shown.id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(vote, range(40)))
    assert len(set(ids)) == rows(any_database, VoteRow) == rows(any_database, BattleRow) == 40


def test_pairs_of_models_stay_even_and_sides_are_mixed(database: Database) -> None:
    fill(database, 8)
    met: Counter[frozenset[str]] = Counter()
    left: Counter[str] = Counter()
    for i in range(60):
        shown = battle(database, f"voter-{i % 5}", seed=i)
        reveal = cast_vote(database, shown.id, f"voter-{i % 5}", "tie")
        met[frozenset((reveal.left_model, reveal.right_model))] += 1
        left[reveal.left_model] += 1
    assert set(met.values()) == {20}
    assert all(8 <= left[model] <= 32 for model in MODELS)


def test_prompts_are_balanced_and_not_repeated_to_a_voter(database: Database) -> None:
    fill(database, 6)
    seen = [battle(database, "ann", MODELS[:2]).messages[0].content for _ in range(6)]
    assert len(set(seen)) == 6
    battle(database, "ann", MODELS[:2])  # all seen: goes on with fresh answers
    assert rows(database, PairRow) == 7


def test_a_stored_pair_is_reused_for_the_next_voter(database: Database) -> None:
    fill(database, 1)
    first = battle(database, "ann", MODELS[:2])
    completer_for = echo(*MODELS[:2])
    second = battle(database, "bob", MODELS[:2], completer_for=completer_for)
    assert completer_for.asked == []
    assert {first.left, first.right} == {second.left, second.right}
    assert first.id != second.id
    assert rows(database, PairRow) == 1


def test_a_typed_prompt_is_stored_as_typed_and_shown_to_nobody_else(any_database: Database) -> None:
    shown = battle(any_database, prompt="  My own question  ")
    assert shown.messages[0].content == "My own question"
    assert [prompt.source for prompt in prompts(any_database, typed=True)] == ["typed"]
    assert prompts(any_database) == []
    with pytest.raises(NotFound, match="no prompts yet"):
        battle(any_database, "bob")
    with pytest.raises(Invalid):
        battle(any_database, prompt="   ")


def test_two_raters_type_the_same_question_at_once(any_database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: battle(any_database, f"voter-{i}", prompt="The same?"), range(16)))
    assert rows(any_database, PromptRow) == 1
    assert rows(any_database, PairRow) == 16


def test_both_models_are_asked_at_once(database: Database) -> None:
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
    told = json.dumps(error.value.body()) + str(error.value.__cause__)
    assert not any(model in told for model in MODELS)
    assert error.value.retry_after
    assert rows(any_database, PairRow) == rows(any_database, BattleRow) == 0


def test_fewer_than_two_models_is_a_mistake_told(database: Database) -> None:
    fill(database)
    with pytest.raises(Invalid, match="two models"):
        battle(database, models=["model-one", "model-one"])
