"""A real `parley up` without models, battles to vote on, and one kill of its page or of a voting process."""

import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import psutil

from bench.votes_kill.browsers import Showing, compare_votes, new_battles, open_voting, page_status, vote_on_all
from models.database import open_database, upgrade
from models.home.instance import read_state
from models.settings.environment import child_environment
from models.settings.settings import load_settings
from serve import start
from tests.stack import ROOT, free_ports
from ui.access.cookies import Cookies

Target = Literal["page", "voter"]
_BEFORE = 10  # votes acknowledged before a kill
_MOMENT_S = 0.2  # the kill comes at a random moment in this time after them
_BATTLES, _THREADS = 60, 4
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


class Deployment:
    """A running Parley over a new home. A context manager."""

    def __init__(self, home: Path, database_url: str | None) -> None:
        port, page_port = free_ports(2)
        self._settings = load_settings(home=home, port=port, page_port=page_port, database_url=database_url)
        self._kind = "postgresql" if database_url else "sqlite"

    def __enter__(self) -> Self:
        upgrade(self._settings)
        self._database = open_database(self._settings)
        open_voting(self._database)
        self._running = start(self._settings, worker=False)
        self._running.wait_ready(_START_S)
        self._cookies = Cookies((self._settings.home / "page-secret").read_text("ascii").strip())
        return self

    def __exit__(self, *_: object) -> None:
        self._running.stop()
        self._database.dispose()

    def kill(self, target: Target, chance: random.Random) -> Kill:
        """Lets people vote, kills the target while they vote, lets them finish, and counts."""
        showings = new_battles(self._database, self._cookies, _BATTLES)
        moment = chance.uniform(0, _MOMENT_S)
        votes = self._kill_page(showings, moment) if target == "page" else self._kill_voter(showings, moment)
        acknowledged, before, back_s = votes
        ids = [showing.id for showing in showings]
        lost, doubled = compare_votes(self._database, ids, acknowledged)
        return Kill(self._kind, target, len(acknowledged), before, lost, doubled, back_s)

    def _kill_page(self, showings: Sequence[Showing], moment: float) -> tuple[list[str], int, float]:
        """The votes acknowledged, those before the kill, and the seconds until the page was back."""
        waiting: queue.SimpleQueue[Showing] = queue.SimpleQueue()
        for showing in showings:
            waiting.put(showing)
        acknowledged: list[str] = []
        deadline = time.monotonic() + _TIMEOUT_S
        arguments = (waiting, self._settings.page_port, acknowledged, deadline)
        threads = [threading.Thread(target=vote_on_all, args=arguments) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        _wait(lambda: len(acknowledged) >= _BEFORE)
        time.sleep(moment)
        program, before = self._page_program(), len(acknowledged)
        program.kill()
        killed = time.monotonic()
        _wait(lambda: page_status(self._settings.page_port, "GET", "/vote/") == 200, _TIMEOUT_S)
        back_s = time.monotonic() - killed
        for thread in threads:
            thread.join()
        return acknowledged, before, back_s

    def _page_program(self) -> psutil.Process:
        state = read_state(self._settings)
        assert state is not None, "Parley runs"
        (program,) = psutil.Process(state["processes"]["page"]["pid"]).children()
        return program

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
