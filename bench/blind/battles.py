"""Raters who vote through the page's plain routes, and the bytes that they receive."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sqlalchemy import select

from bench.rater_client import Exchange, RaterClient
from evals.tables import BattleRow, PairRow
from models.database import Database

CAMPAIGN = "blind"
_ROOT = f"/vote/c/{CAMPAIGN}"
_CHOICES = ("left", "right", "tie", "both_bad")
_READING_S = 0.2  # at most, between a pair and its vote
# Other addresses that a rater can request. Any status is accepted; their bytes are searched for names.
_GETS = (
    f"{_ROOT}/config", f"{_ROOT}/theme.css", f"{_ROOT}/favicon.ico", f"{_ROOT}/gradio_api/startup-events",
    f"{_ROOT}/gradio_api/app_id", f"{_ROOT}/gradio_api/queue/data?session_hash=x", f"{_ROOT}/gradio_api/info",
    f"{_ROOT}/gradio_api/file=/etc/passwd", f"{_ROOT}/api/nothing", f"{_ROOT}/api/next",
    f"/campaigns/c/{CAMPAIGN}/report", f"/campaigns/c/{CAMPAIGN}/export", f"/campaigns/c/{CAMPAIGN}/config",
    f"/campaigns/c/{CAMPAIGN}/", f"/campaigns/export?campaign={CAMPAIGN}", "/vote/", "/vote/config", "/vote/api/state",
    "/vote/c/nowhere/api/state", "/vote/i/forged", "/vote/r/forged", "/config", "/", "/health", "/login",
    "/gradio_api/info", "/bot/", "/bot/config",
)  # fmt: skip
_POSTS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("api/vote", {"battle": "forged", "choice": "left"}), ("api/vote", {"battle": 7}), ("api/vote", {}),
    ("api/skip", {"battle": "forged", "reason": "other"}), ("api/undo", {}), ("api/next", {"prompt": "Who are you?"}),
    ("gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": "x"}), ("gradio_api/run/predict", {}),
)  # fmt: skip


@dataclass(frozen=True)
class BattleTrace:
    """A battle as its rater saw it: the responses with the pair and to the vote. `place`: the rater's n-th, from 0."""

    id: str
    rater: int
    place: int
    pair: Exchange
    vote: Exchange


@dataclass(frozen=True)
class VoteTraces:
    """All battles of all raters, and every response that anybody received."""

    battles: tuple[BattleTrace, ...]
    exchanges: tuple[Exchange, ...]


async def vote_all(port: int, links: Sequence[str], group_link: str, battles: int, seed: int) -> VoteTraces:
    """Raters come by one invite each and vote at the same time, on `battles` pairs altogether.

    Raises:
        RuntimeError: a pair or a vote was refused.
    """
    shares = [len(share) for share in np.array_split(np.arange(battles), len(links))]
    raters = [_Rater(port, number, link, seed) for number, link in enumerate(links)]
    await asyncio.gather(*(rater.vote(share) for rater, share in zip(raters, shares, strict=True)))
    await raters[0].look_around(group_link)
    found = [battle for rater in raters for battle in rater.battles]
    return VoteTraces(tuple(found), tuple(exchange for rater in raters for exchange in rater.exchanges))


class _Rater:
    def __init__(self, port: int, number: int, link: str, seed: int) -> None:
        self._client = RaterClient(port)
        self._number, self._link = number, link
        self._chance = random.Random(f"{seed}/{number}")
        self.battles: list[BattleTrace] = []
        self.exchanges: list[Exchange] = []

    async def vote(self, count: int) -> None:
        """Votes on `count` pairs; takes the first vote back and casts it again."""
        for path in (self._link, f"{_ROOT}/", f"{_ROOT}/api/state"):
            await self._get(path)
        for place in range(count):
            pair = _accepted(await self._post("api/next", {}))
            battle = pair.json()["battle"]["id"]
            await asyncio.sleep(self._chance.uniform(0, _READING_S))
            ballot = {"battle": battle, "choice": self._chance.choice(_CHOICES)}
            vote = _accepted(await self._post("api/vote", ballot))
            if place == 0:
                _accepted(await self._post("api/undo", {}))
                _accepted(await self._post("api/vote", ballot))
            self.battles.append(BattleTrace(battle, self._number, place, pair, vote))
        await self._get(f"{_ROOT}/api/state")

    async def look_around(self, group_link: str) -> None:
        """Requests all other addresses, with this rater's cookies and without any."""
        for client in (self._client, RaterClient(self._client.port)):
            self._client = client
            for path in (*_GETS, self._link, group_link):
                await self._get(path)
            for path, body in _POSTS:
                await self._post(path, body)

    async def _get(self, path: str) -> Exchange:
        self.exchanges.append(await self._client.get(path))
        return self.exchanges[-1]

    async def _post(self, path: str, body: Mapping[str, object]) -> Exchange:
        self.exchanges.append(await self._client.post(f"{_ROOT}/{path}", body))
        return self.exchanges[-1]


def _accepted(exchange: Exchange) -> Exchange:
    if exchange.status != 200:
        raise RuntimeError(f"{exchange.request} was refused: {exchange.raw[-300:]!r}")
    return exchange


def left_models(database: Database, battles: Sequence[BattleTrace]) -> list[str]:
    """The model at the left of each battle, from the database."""
    query = (
        select(BattleRow.id, BattleRow.flipped, PairRow.model_1, PairRow.model_2)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .where(BattleRow.campaign == CAMPAIGN)
    )
    with database.read() as session:
        left = {row.id: row.model_2 if row.flipped else row.model_1 for row in session.execute(query)}
    return [left[battle.id] for battle in battles]


def observed_features(battles: Sequence[BattleTrace]) -> np.ndarray:
    """(battles, k): times, counts and sizes that the rater's browser can see, of the pair, its sides and the vote."""
    return np.array([_features(battle) for battle in battles], float)


def _features(battle: BattleTrace) -> list[float]:
    shown = battle.pair.json()["battle"]
    left, right = shown["left"], shown["right"]
    sides = [measure(text) for text in (left, right) for measure in (len, _words, _tags)]
    hidden = [text.count("[name hidden]") for text in (left, right)]
    exchanges = [
        value
        for exchange in (battle.pair, battle.vote)
        for value in (
            exchange.seconds, exchange.arrivals[0][0], _longest_gap(exchange), len(exchange.arrivals),
            len(exchange.raw), len(exchange.head),
        )
    ]  # fmt: skip
    return [battle.place, *sides, *hidden, len(left) - len(right), *exchanges]


def _words(text: str) -> int:
    return len(text.split())


def _tags(text: str) -> int:
    return text.count("<")


def _longest_gap(exchange: Exchange) -> float:
    times = [arrival for arrival, _ in exchange.arrivals]
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
