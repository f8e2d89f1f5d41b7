"""The raters' app before a vote: no model's name in pages, headers or errors. The browser test records the rest."""

import json

from evals.campaigns.battles import Battle
from models.errors import Invalid, NotFound, ParleyError, Unavailable
from models.messages import Message
from tests.ui.conftest import NAMES, Page
from ui.raters.html import error_text
from ui.raters.open_battles import OpenBattles


def battle(name: str) -> Battle:
    return Battle(id=name, messages=(Message(role="user", content="?"),), left="l", right="r")


def test_the_built_page_names_no_model(open_page: Page):
    client = open_page.browser()
    for address in ("/vote/", "/vote/config", "/vote/theme.css"):
        answer = client.get(address)
        everything = answer.text + json.dumps(dict(answer.headers))
        for name in NAMES:
            assert name not in everything


def test_errors_name_no_model():
    name = NAMES[0]
    errors: list[BaseException] = [
        Invalid(f"{name} is bad", param="prompt"),
        Invalid(f"{name} is bad", param="models"),
        NotFound(f"no {name}"),
        Unavailable(f"{name} died"),
        ParleyError(f"{name} died"),
        RuntimeError(f"{name} died"),
    ]
    for error in errors:
        assert name not in error_text(error)
        assert error_text(error)


def test_a_reload_shows_the_same_battle_until_the_vote():
    battles = OpenBattles()
    battles.put("ann", battle("one"))
    assert battles.get("ann") == battle("one")
    assert battles.get("bob") is None
    battles.close("ann", "another")
    assert battles.get("ann")
    battles.close("ann", "one")
    assert battles.get("ann") is None


def test_the_oldest_battles_are_dropped():
    battles = OpenBattles(limit=3)
    for voter in "abcde":
        battles.put(voter, battle(voter))
    assert [voter for voter in "abcde" if battles.get(voter)] == ["c", "d", "e"]
