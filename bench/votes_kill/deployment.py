"""A real `parley up` without models, battles to vote on, and one kill of its page or of a voting process."""

import http.client
import json
import queue
import random
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import psutil
from sqlalchemy import select, update

from evals.campaign_tables import OPEN_CAMPAIGN, CampaignRow
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from models.database import new_ulid, open_database, upgrade, utcnow
from models.home.instance import read_state
from models.settings.settings import child_environment, load_settings
from serve import start
from tests.stack import ROOT, free_ports
from ui.access.cookies import VOTER_COOKIE, Cookies

Target = Literal["page", "voter"]
_BEFORE = 10  # votes acknowledged before a kill
_MOMENT_S = 0.2  # the kill comes at a random moment in this time after them
_BATTLES, _THREADS = 60, 4
_PAUSE_S = 0.02  # between a browser's votes
_START_S, _TIMEOUT_S = 240.0, 120.0


@dataclass(frozen=True)
class Kill:
    """One kill. `acknowledged` votes were answered before or after it, `acknowledged_before` of them before.

    `lost` of them are not stored; `doubled` are stored more than once, or with another choice.
    """

    database: str
    target: str
    acknowledged: int
    acknowledged_before: int
    lost: int
    doubled: int
    page_back_s: float | None


@dataclass(frozen=True)
class Showing:
    """A battle to vote on: its voter and the voter's signed cookie."""

    id: str
    voter: str
    cookie: str


class Deployment:
    """A running Parley over a new home. A context manager."""

    def __init__(self, home: Path, database_url: str | None) -> None:
        port, page_port = free_ports(2)
        self._settings = load_settings(home=home, port=port, page_port=page_port, database_url=database_url)
        self._kind = "postgresql" if database_url else "sqlite"

    def __enter__(self) -> Self:
        upgrade(self._settings)
        self._database = open_database(self._settings)
        with self._database.write() as session:
            session.execute(update(CampaignRow).values(opened=utcnow(), models=["a", "b"]))
        self._running = start(self._settings, worker=False)
        self._running.wait_ready(_START_S)
        self._cookies = Cookies((self._settings.home / "page-secret").read_text("ascii").strip())
        return self

    def __exit__(self, *_: object) -> None:
        self._running.stop()
        self._database.dispose()

    def kill(self, target: Target, chance: random.Random) -> Kill:
        """Lets people vote, kills the target among it, lets them finish, and counts."""
        showings = self._new_battles(_BATTLES)
        moment = chance.uniform(0, _MOMENT_S)
        votes = self._kill_page(showings, moment) if target == "page" else self._kill_voter(showings, moment)
        acknowledged, before, back_s = votes
        ids = [showing.id for showing in showings]
        with self._database.read() as session:
            stored = session.execute(select(VoteRow.battle_id, VoteRow.choice).where(VoteRow.battle_id.in_(ids))).all()
        counts, choices = Counter(row[0] for row in stored), {row.battle_id: row.choice for row in stored}
        lost = sum(battle not in counts for battle in acknowledged)
        doubled = sum(counts[battle] > 1 or choices.get(battle, "left") != "left" for battle in acknowledged)
        return Kill(self._kind, target, len(acknowledged), before, lost, doubled, back_s)

    def _new_battles(self, count: int) -> list[Showing]:
        """Stores battles, each for a voter of its own."""
        showings = []
        with self._database.write() as session:
            for _ in range(count):
                text, prompt_id, pair_id = secrets.token_hex(16), new_ulid(), new_ulid()
                messages = [{"role": "user", "content": text}]
                session.add(PromptRow(id=prompt_id, digest=text * 2, messages=messages, source="bench"))
                session.flush()
                answers = {"answer_1": "one", "answer_2": "two"}
                session.add(PairRow(id=pair_id, prompt_id=prompt_id, model_1="a", model_2="b", **answers))
                session.flush()
                voter, cookie = self._cookies.new_voter()
                battle = BattleRow(id=secrets.token_urlsafe(24), pair_id=pair_id, voter=voter, flipped=False)
                battle.campaign = OPEN_CAMPAIGN
                session.add(battle)
                showings.append(Showing(battle.id, voter, f"{VOTER_COOKIE}={cookie}"))
        return showings

    def _kill_page(self, showings: Sequence[Showing], moment: float) -> tuple[list[str], int, float]:
        """The votes acknowledged, those before the kill, and the seconds until the page was back."""
        waiting: queue.SimpleQueue[Showing] = queue.SimpleQueue()
        for showing in showings:
            waiting.put(showing)
        acknowledged: list[str] = []
        deadline = time.monotonic() + _TIMEOUT_S
        threads = [threading.Thread(target=self._vote, args=(waiting, acknowledged, deadline)) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        _wait(lambda: len(acknowledged) >= _BEFORE)
        time.sleep(moment)
        program, before = self._page_program(), len(acknowledged)
        program.kill()
        killed = time.monotonic()
        _wait(lambda: self._request("GET", "/vote/", "") == 200, _TIMEOUT_S)
        back_s = time.monotonic() - killed
        for thread in threads:
            thread.join()
        return acknowledged, before, back_s

    def _page_program(self) -> psutil.Process:
        state = read_state(self._settings)
        assert state is not None, "Parley runs"
        (program,) = psutil.Process(state["processes"]["page"]["pid"]).children()
        return program

    def _vote(self, waiting: "queue.SimpleQueue[Showing]", acknowledged: list[str], deadline: float) -> None:
        """A browser: it votes, and casts a vote without an answer again. 409 says that it is stored."""
        while True:
            try:
                showing = waiting.get_nowait()
            except queue.Empty:
                return
            body = json.dumps({"battle": showing.id, "choice": "left"})
            while self._request("POST", "/vote/api/vote", showing.cookie, body) not in (200, 409):
                if time.monotonic() > deadline:
                    return
                time.sleep(_PAUSE_S)
            acknowledged.append(showing.id)
            time.sleep(_PAUSE_S)

    def _request(self, method: str, path: str, cookie: str, body: str | None = None) -> int | None:
        """The status, or None where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self._settings.page_port, timeout=30)
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

    def _kill_voter(self, showings: Sequence[Showing], moment: float) -> tuple[list[str], int, None]:
        """As `_kill_page`. A second process casts all votes again: those that are stored stay as they are."""
        lines = "".join(f"{showing.id} {showing.voter}\n" for showing in showings)
        command = [sys.executable, "-m", "bench.votes_kill.voter"]
        environment = child_environment(self._settings)
        acknowledged: list[str] = []
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        ) as voter:
            assert voter.stdin is not None
            assert voter.stdout is not None
            voter.stdin.write(lines)
            voter.stdin.close()
            for line in voter.stdout:
                acknowledged.append(line.strip())
                if len(acknowledged) == _BEFORE:
                    threading.Timer(moment / 4, voter.kill).start()
        before = len(acknowledged)
        subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT, check=True)
        return acknowledged, before, None


def _wait(condition: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("Nothing happened in time.")
        time.sleep(0.01)
