"""Battles of a campaign: failing models, limits with many raters at once, stored answers, samples, gold pairs."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, update

from evals.campaign_tables import CampaignPairRow, SetAsideRow
from evals.campaigns.answers import store_answers
from evals.campaigns.ballots import cast_vote, rater_progress, skip_battle
from evals.campaigns.battles import open_battles
from evals.campaigns.set_aside import Place, list_set_aside
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.prompts import add_prompts, prompts
from models.chat.messages import Completion
from models.database import Database, utcnow
from models.errors import Conflict, Forbidden, Invalid, ParleyError, Unavailable
from tests.evals.battles import open_with
from tests.evals.campaigns.campaigns import MODELS, battle, opened
from tests.evals.scripted import Scripted, echo


def dead(_: str) -> str:
    raise Unavailable("model-one cannot be reached.", retry_after=7)


def healthy(mark: str):
    return lambda question: f"{mark}: {question}"


ONE_DEAD = {"model-one": dead, "model-two": healthy("β"), "model-three": healthy("γ")}


@pytest.mark.long
def test_one_dead_model_beside_two_healthy_ones_costs_no_battle(any_database: Database) -> None:
    add_prompts(any_database, [{"prompt": f"Where is order {i}?"} for i in range(12)], "test")
    open_with(any_database, MODELS)
    models = Scripted(ONE_DEAD)
    shown = [battle(any_database, "ann", models, "open") for _ in range(12)]
    assert len({item.id for item in shown}) == 12
    assert all({item.left[0], item.right[0]} == {"β", "γ"} for item in shown)
    assert models.calls.count("model-one") == 1, "it rests after the first failure"
    (failure,) = list_set_aside(any_database, "open")
    assert (failure.place, failure.failures, failure.resting) == (Place("model-one"), 1, True)
    assert "cannot be reached" in failure.reason


@pytest.mark.long
def test_the_pause_doubles_up_to_ten_minutes_and_ends_when_the_model_works(database: Database) -> None:
    add_prompts(database, [{"prompt": f"Where is order {i}?"} for i in range(40)], "test")
    open_with(database, MODELS)
    pauses = []
    for _ in range(9):
        before = utcnow()
        for _ in range(6):  # the dead model is drawn soon, since its pairs were shown least
            battle(database, "ann", Scripted(ONE_DEAD), "open")
        (failure,) = list_set_aside(database, "open")
        pauses.append(round((failure.until - before).total_seconds(), -1))
        with database.write() as session:
            session.execute(update(SetAsideRow).values(until=utcnow() - timedelta(seconds=1)))
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    for _ in range(6):
        battle(database, "bob", name="open")
    assert list_set_aside(database, "open") == []


def test_failure_of_all_models_names_none(any_database: Database) -> None:
    add_prompts(any_database, [{"prompt": "Why?"}], "test")
    open_with(any_database, MODELS)
    for _ in range(2):
        with pytest.raises(Unavailable) as error:
            battle(any_database, "ann", Scripted(dict.fromkeys(MODELS, dead)), "open")
        assert not any(model in str(error.value.body()) for model in MODELS)
        assert error.value.retry_after
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(BattleRow)) == 0


def test_an_empty_answer_sets_its_prompt_aside_only(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 3, MODELS[:2])
    models = Scripted({"model-one": lambda question: "" if "order 1" in question else "α", "model-two": healthy("β")})
    shown = {battle(database, "ann", models).messages[0].content for _ in range(2)}
    assert shown == {"Where is order 0?", "Where is order 2?"}
    with pytest.raises(Unavailable):
        battle(database, "ann", models)
    (failure,) = list_set_aside(database, "acceptance")
    assert failure.place.model_1 == "model-one"
    assert failure.place.prompt_id


def test_models_that_are_not_ready_get_no_requests_but_their_stored_answers_are_shown(
    database: Database, tmp_path: Path
) -> None:
    opened(database, tmp_path, 1, MODELS[:2])
    with pytest.raises(Unavailable):
        battle(database, "ann", ready=["model-one"])
    battle(database, "ann")
    models = echo(*MODELS)
    battle(database, "bob", models, ready=[])
    assert models.calls == []


def test_an_answer_is_shared_by_the_pairs_of_its_model(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, 1)
    models = echo(*MODELS)
    for _ in range(3):
        battle(any_database, "ann", models)
    assert Counter(models.calls) == dict.fromkeys(MODELS, 1)
    with pytest.raises(Conflict) as error:
        battle(any_database, "ann", models)
    assert error.value.code == "nothing_left"


def test_prepared_answers_need_no_model(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 2, MODELS[:2])
    for prompt in prompts(database, typed=True):
        store_answers(database, prompt, {model: Completion(text=f"from {model[-3:]}") for model in MODELS[:2]}, 0)
    models = Scripted(dict.fromkeys(MODELS, dead))
    assert {battle(database, "ann", models).left for _ in range(2)} <= {"from one", "from two"}
    assert models.calls == []


def test_each_sample_of_a_prompt_is_shown_in_turn(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 1, MODELS[:2], samples=3)
    models = echo(*MODELS)
    for voter in range(6):
        battle(database, f"voter-{voter}", models)
    assert Counter(models.calls) == dict.fromkeys(MODELS[:2], 3)
    with database.read() as session:
        cells = session.scalars(select(CampaignPairRow)).all()
        assert sorted((cell.sample, cell.shown) for cell in cells) == [(0, 2), (1, 2), (2, 2)]
        assert session.scalar(select(func.count()).select_from(PairRow)) == 3


def vote_until_the_end(database: Database, voter: str) -> int:
    """Votes as long as there are battles; returns how many."""
    for votes in range(100):
        try:
            cast_vote(database, battle(database, voter).id, voter, "left")
        except Conflict:
            return votes
    raise AssertionError("a campaign of this size ends")


@pytest.mark.long
def test_no_pair_gets_more_votes_than_wanted_with_raters_at_once(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, 4, MODELS[:2], votes_per_pair=2)
    with ThreadPoolExecutor(6) as pool:
        votes = list(pool.map(lambda i: vote_until_the_end(any_database, f"voter-{i}"), range(6)))
    assert sum(votes) == 8
    with any_database.read() as session:
        per_pair = select(func.count()).select_from(VoteRow).join(BattleRow).group_by(BattleRow.pair_id)
        assert list(session.scalars(per_pair)) == [2, 2, 2, 2]
        assert [cell.voted for cell in session.scalars(select(CampaignPairRow))] == [2, 2, 2, 2]


@pytest.mark.long
def test_votes_per_person_hold_across_tabs(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, 12, votes_per_person=5)
    assert vote_until_the_end(any_database, "ann") == 5
    progress = rater_progress(any_database, "ann", "acceptance")
    assert (progress.votes, progress.wanted) == (5, 5)

    def tab(_: int) -> str | None:
        try:
            return battle(any_database, "bob").id
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(tab, range(16))) - {None}) == 5
    assert len(open_battles(any_database, "bob", "acceptance", limit=10)) == 5


def test_a_skip_uses_no_vote(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 3, MODELS[:2], votes_per_pair=1, votes_per_person=2)
    skip_battle(database, battle(database, "ann").id, "ann", "unclear")
    assert vote_until_the_end(database, "ann") == 2
    assert vote_until_the_end(database, "bob") == 1


def test_an_abandoned_battle_is_given_to_others_after_half_an_hour(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 1, MODELS[:2], votes_per_pair=1)
    battle(database, "ann")
    with pytest.raises(Conflict):
        battle(database, "bob")
    with database.write() as session:
        session.execute(update(BattleRow).values(created=utcnow() - timedelta(minutes=31)))
    assert battle(database, "bob").id


def test_only_invited_people_vote(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, access="invited")
    with pytest.raises(Forbidden) as error:
        battle(database)
    assert error.value.code == "invited_only"


def test_own_questions_are_for_the_open_campaign(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path)
    with pytest.raises(Invalid) as error:
        battle(database, prompt="My own?")
    assert error.value.param == "prompt"
    assert not any(prompt.source == "typed" for prompt in prompts(database, typed=True))


@pytest.mark.long
def test_sides_are_balanced_for_each_voter_if_no_name_is_shown(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 40, MODELS[:2], reveal="never")
    for _ in range(40):
        battle(database)
    with database.read() as session:
        flips = [row.flipped for row in session.scalars(select(BattleRow).order_by(BattleRow.created, BattleRow.id))]
    assert [sum(flips[start : start + 4]) for start in range(0, 40, 4)] == [2] * 10
    assert len({tuple(flips[start : start + 4]) for start in range(0, 40, 4)}) > 2


def test_each_battle_has_the_probability_of_its_models(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 4)
    for _ in range(3):
        battle(database)
    with database.read() as session:
        rows = session.scalars(select(BattleRow).order_by(BattleRow.created, BattleRow.id))
        assert [row.probability for row in rows] == pytest.approx([1 / 3, 1 / 2, 1])


@pytest.mark.long
def test_a_cancelled_request_stores_nothing(database: Database, tmp_path: Path) -> None:
    from evals.campaigns.battles import next_battle

    opened(database, tmp_path, 1, MODELS[:2])

    async def leave() -> None:
        request = asyncio.ensure_future(next_battle(database, "ann", echo(*MODELS, delay_s=30), "acceptance"))
        await asyncio.sleep(0.3)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(leave())
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(PairRow)) == 0


def test_every_error_of_a_battle_is_one_line_without_a_model(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 1, MODELS[:2])
    with pytest.raises(ParleyError) as error:
        battle(database, "ann", Scripted(dict.fromkeys(MODELS, dead)))
    assert not any(model in f"{error.value} {error.value.__cause__} {error.value.__context__}" for model in MODELS)


def test_a_vote_with_its_next_pair_reads_one_voters_battles_only(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 1, MODELS[:2])
    statements: list[tuple[str, tuple[object, ...]]] = []
    first = battle(database, "ann")
    with database.connection() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *call: statements.append(call[2:4]))
        engine = connection.engine
    cast_vote(database, first.id, "ann", "left")
    battle(database, "bob")
    done = [statement for statement in statements if "battles" in statement[0] and statement[0].startswith("SELECT")]
    assert done
    assert len(statements) <= 27
    with engine.connect() as connection:
        for statement, parameters in done:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            assert not [step for step in plan.mappings() if "ix_battles_campaign" in step["detail"]], statement
