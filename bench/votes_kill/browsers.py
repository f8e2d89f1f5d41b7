"""Browsers that vote at a page: their battles, votes that are repeated until acknowledged, and a check of the rows."""

import http.client
import json
import queue
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from evals.campaign_tables import OPEN_CAMPAIGN, CampaignRow
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from models.database import Database, new_ulid, utcnow
from ui.access.cookies import VOTER_COOKIE, Cookies

_PAUSE_S = 0.02  # between a browser's votes


@dataclass(frozen=True)
class Showing:
    """A battle to vote on: its voter and the voter's signed cookie."""

    id: str
    voter: str
    cookie: str


def open_voting(database: Database) -> None:
    """Opens the shared campaign for two models, to which no request is sent."""
    with database.write() as session:
        session.execute(update(CampaignRow).values(opened=utcnow(), models=["a", "b"]))


def new_battles(database: Database, cookies: Cookies, count: int) -> list[Showing]:
    """Stores battles, each for a voter of its own."""
    showings = []
    with database.write() as session:
        for _ in range(count):
            text, prompt_id, pair_id = secrets.token_hex(16), new_ulid(), new_ulid()
            messages = [{"role": "user", "content": text}]
            session.add(PromptRow(id=prompt_id, digest=text * 2, messages=messages, source="bench"))
            session.flush()
            answers = {"answer_1": "one", "answer_2": "two"}
            session.add(PairRow(id=pair_id, prompt_id=prompt_id, model_1="a", model_2="b", **answers))
            session.flush()
            voter, cookie = cookies.new_voter()
            battle = BattleRow(id=secrets.token_urlsafe(24), pair_id=pair_id, voter=voter, flipped=False)
            battle.campaign = OPEN_CAMPAIGN
            session.add(battle)
            showings.append(Showing(battle.id, voter, f"{VOTER_COOKIE}={cookie}"))
    return showings


def vote_on_all(waiting: "queue.SimpleQueue[Showing]", port: int, acknowledged: list[str], deadline: float) -> None:
    """A browser: it votes, and repeats a vote that got no answer. 409 means that the vote is stored.

    It ends when nothing waits, or at the first vote without an answer after `deadline`, a `time.monotonic()`.
    """
    while True:
        try:
            showing = waiting.get_nowait()
        except queue.Empty:
            return
        body = json.dumps({"battle": showing.id, "choice": "left"})
        while page_status(port, "POST", "/vote/api/vote", showing.cookie, body) not in (200, 409):
            if time.monotonic() > deadline:
                return
            time.sleep(_PAUSE_S)
        acknowledged.append(showing.id)
        time.sleep(_PAUSE_S)


def page_status(port: int, method: str, path: str, cookie: str = "", body: str | None = None) -> int | None:
    """The status of a request to the page at `port` of loopback; None where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"cookie": cookie} | ({"content-type": "application/json"} if body else {})
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def compare_votes(database: Database, battles: Sequence[str], acknowledged: Sequence[str]) -> tuple[int, int]:
    """How many acknowledged votes are not stored, and how many are stored more than once or with another choice."""
    with database.read() as session:
        stored = session.execute(select(VoteRow.battle_id, VoteRow.choice).where(VoteRow.battle_id.in_(battles))).all()
    counts, choices = Counter(row[0] for row in stored), {row.battle_id: row.choice for row in stored}
    lost = sum(battle not in counts for battle in acknowledged)
    return lost, sum(counts[battle] > 1 or choices.get(battle, "left") != "left" for battle in acknowledged)
