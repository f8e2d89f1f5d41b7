"""Raters at once on a prepared campaign: how soon the next pair is there, and what a vote costs the page.

    python -m bench.raters [--raters 50] [--owners 0] [--seconds 120] [--reading 10] [--no-browser] [--seed 0] [--json]

HTTP raters read for random times and fetch the next pair meanwhile, as the page's script does; one more rater uses a
real browser. All answers are stored before. `next_pair_p95_ms`: from a vote until it is stored and the next pair is
there; `browser_p95_ms`: from the click until the next pair is visible. `page_cpu_ms`: CPU of the page's process for a
vote with its next pair. `pages_p95_ms`: until a rater, or an owner who loads the owners' page again and again, has the
page. Exit status 1 if the next pair takes over 300 ms, a page over 2 s, or a vote over 60 ms of CPU.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.rater_client import Exchange, RaterClient
from bench.rater_page import RaterPage
from evals.campaigns.answers import store_answers
from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.invites import NewInvite, create_invite, sign_invite
from evals.votes.prompts import add_prompts, prompts
from models.chat.messages import Completion
from models.database import Database
from models.home.page_secret import page_secret
from models.keys import list_keys
from models.spec import Upstream
from tests.ui.conftest import CHROMIUM, CHROMIUM_ARGUMENTS
from ui.access.cookies import OWNER_COOKIE, Cookies

_CAMPAIGN = "raters"
_ROOT = f"/vote/c/{_CAMPAIGN}"
_MODELS = ("model-a", "model-b")
_PROMPTS = 200  # more than anybody has time for
_ANSWER = (
    "Your order left our warehouse this morning. It usually takes **two working days**.\n\n- Track it under *Orders*"
)
_NEXT_GOAL_MS, _PAGE_GOAL_MS, _CPU_GOAL_MS = 300.0, 2_000.0, 60.0
# Votes with the left button and waits until another question is shown with its buttons; returns milliseconds.
_CLICK = """() => new Promise((resolve) => {
  const question = () => document.querySelector("#vote-question").textContent;
  const before = question(), began = performance.now();
  const look = () => question() !== before && question() && !document.querySelector("#vote-ballot").hidden
    ? resolve(performance.now() - began) : requestAnimationFrame(look);
  document.querySelector("#vote-left").click();
  look();
})"""


@dataclass(frozen=True)
class Visit:
    """How one rater comes and reads. `until`: no further vote after this time of `time.monotonic`."""

    port: int
    link: str
    reading_s: float
    until: float
    chance: random.Random


@dataclass
class Waits:
    """Seconds of each page, of each vote, of each fetched pair, and from a vote until the next pair is there."""

    votes: list[float] = field(default_factory=list)
    fetches: list[float] = field(default_factory=list)
    next_pairs: list[float] = field(default_factory=list)
    browser: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.raters", description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=50, help="HTTP raters at the same time")
    parser.add_argument("--owners", type=int, default=0, help="owners who load their page meanwhile")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long they vote")
    parser.add_argument("--reading", type=float, default=10.0, help="mean seconds between a pair and its vote")
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0, help="seed of the reading times")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="parley-raters-") as folder:
        result = run(Path(folder), options)
    print(json.dumps(result) if options.json else "\n".join(f"{name:20} {value}" for name, value in result.items()))
    slowest = max(result["next_pair_p95_ms"], result["browser_p95_ms"] or 0.0)
    too_slow = slowest > _NEXT_GOAL_MS or result["pages_p95_ms"] > _PAGE_GOAL_MS
    # The CPU of owners' pages counts too, so with owners it is no measure of a vote.
    return int(too_slow or (not options.owners and result["page_cpu_ms"] > _CPU_GOAL_MS))


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Lets people vote; returns the JSON object."""
    nobody = Upstream(base_url="http://127.0.0.1:9/v1", model="nobody")  # never asked: all answers are stored
    with RaterPage(folder / "home", dict.fromkeys(_MODELS, nobody)) as page:
        _store_campaign(page)
        links = _links(page, options.raters + options.browser)
        cookie = _owner_cookie(page)
        waits = Waits()
        page_before, own_before, began = page.page_cpu_s(), time.process_time(), time.monotonic()
        browser_cpu_s = asyncio.run(_visit_all(page.settings.page_port, links, options, waits, cookie))
        seconds, own_s = time.monotonic() - began, time.process_time() - own_before
        page_s = page.page_cpu_s() - page_before
        faults = page.page_log().count("Traceback")
    votes = len(waits.votes) + len(waits.browser)
    return {
        "raters": options.raters,
        "owners": options.owners,
        "pages": len(waits.pages),
        "pages_p95_ms": _percentile_ms(waits.pages, 95),
        "votes": votes,
        "seconds": round(seconds, 1),
        "next_pair_p50_ms": _percentile_ms(waits.next_pairs, 50),
        "next_pair_p95_ms": _percentile_ms(waits.next_pairs, 95),
        "vote_p95_ms": _percentile_ms(waits.votes, 95),
        "fetch_p95_ms": _percentile_ms(waits.fetches, 95),
        "browser_votes": len(waits.browser),
        "browser_p95_ms": _percentile_ms(waits.browser, 95) if waits.browser else None,
        "page_cpu_ms": round(1000 * page_s / votes, 1),
        "client_cpu_ms": round(1000 * own_s / votes, 1),
        "browser_cpu_s": round(browser_cpu_s, 1),
        "faults": faults,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }


def _store_campaign(page: RaterPage) -> None:
    """An open campaign whose answers are all stored."""
    database: Database = page.database
    add_prompts(database, [{"prompt": f"Where is order {number}?"} for number in range(_PROMPTS)], "bench")
    completion = Completion(text=_ANSWER, finish_reason="stop", prompt_tokens=8, completion_tokens=24)
    for prompt in prompts(database):
        store_answers(database, prompt, dict.fromkeys(_MODELS, completion), 0)
    source = PromptSource(stored="all")
    page.open_campaign(NewCampaign(_CAMPAIGN, _MODELS, source, votes_per_pair=None, reveal="never"))


def _links(page: RaterPage, count: int) -> list[str]:
    secret = page_secret(page.settings.home)
    invites = [create_invite(page.database, NewInvite(_CAMPAIGN, f"Rater {number}")) for number in range(count)]
    return [f"/vote/i/{sign_invite(secret, invite.id)}" for invite in invites]


def _owner_cookie(page: RaterPage) -> str:
    """The cookie of an owner who has signed in."""
    key = next(key for key in list_keys(page.database) if key.role == "owner")
    return Cookies(page_secret(page.settings.home)).owner_value(key.id)


async def _visit_all(
    port: int, links: Sequence[str], options: argparse.Namespace, waits: Waits, owner_cookie: str
) -> float:
    """Everybody votes, and owners load their page, until the time is over; returns the browser's CPU seconds."""
    until = time.monotonic() + options.seconds
    visits = [
        Visit(port, link, options.reading, until, random.Random(f"{options.seed}/{number}"))
        for number, link in enumerate(links)
    ]
    voting = [_vote(visit, waits) for visit in visits[: options.raters]]
    browsing = [_browse(visit, waits) for visit in visits[options.raters :]]
    chances = (random.Random(f"{options.seed}/owner {number}") for number in range(options.owners))
    owning = [_load_pages(Visit(port, "/", options.reading, until, chance), waits, owner_cookie) for chance in chances]
    results = await asyncio.gather(*browsing, *voting, *owning)
    return sum(each or 0.0 for each in results)


async def _load_pages(visit: Visit, waits: Waits, cookie: str) -> None:
    """An owner without a browser: loads the owners' page, reads, and loads it again."""
    client = RaterClient(visit.port, {OWNER_COOKIE: cookie})
    await asyncio.sleep(visit.chance.uniform(0, visit.reading_s))
    while time.monotonic() < visit.until:
        page = await client.get(visit.link)
        if page.status != 200:
            raise RuntimeError(f"The owners' page was refused: {page.raw[-300:]!r}")
        waits.pages.append(page.seconds)
        await asyncio.sleep(visit.chance.expovariate(1 / visit.reading_s))


async def _vote(visit: Visit, waits: Waits) -> None:
    """A rater without a browser: comes at a random moment, and reads while the next pair is fetched."""
    await asyncio.sleep(visit.chance.uniform(0, min(visit.reading_s, (visit.until - time.monotonic()) / 2)))
    client = RaterClient(visit.port)
    for path in (visit.link, f"{_ROOT}/", f"{_ROOT}/api/state"):
        came = await client.get(path)
        if path == f"{_ROOT}/":
            waits.pages.append(came.seconds)
    shown = _battle(await _fetch(client, waits))
    while True:
        waiting = asyncio.create_task(_fetch(client, waits))
        await asyncio.sleep(visit.chance.expovariate(1 / visit.reading_s))
        if time.monotonic() > visit.until:
            await waiting
            return
        began = time.perf_counter()
        vote = await client.post(f"{_ROOT}/api/vote", {"battle": shown, "choice": "left"})
        if vote.status != 200:
            raise RuntimeError(f"A vote was refused: {vote.raw[-300:]!r}")
        shown = _battle(await waiting)
        waits.next_pairs.append(time.perf_counter() - began)
        waits.votes.append(vote.seconds)


async def _fetch(client: RaterClient, waits: Waits) -> Exchange:
    pair = await client.post(f"{_ROOT}/api/next", {})
    waits.fetches.append(pair.seconds)
    return pair


def _battle(pair: Exchange) -> str:
    if pair.status != 200:
        raise RuntimeError(f"A pair was refused: {pair.raw[-300:]!r}")
    return pair.json()["battle"]["id"]


async def _browse(visit: Visit, waits: Waits) -> float:
    """A rater in a real browser, who reads for half of the others' time; returns its CPU seconds."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        others = set(psutil.Process().children(recursive=True))
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.goto(f"http://127.0.0.1:{visit.port}{visit.link}")
        await page.click("#vote-begin", timeout=60_000)
        await page.wait_for_selector("#vote-left", timeout=60_000)
        while True:
            await asyncio.sleep(visit.chance.expovariate(2 / visit.reading_s))
            if time.monotonic() > visit.until:
                break
            waits.browser.append(await page.evaluate(_CLICK) / 1000)
        used = 0.0
        for process in set(psutil.Process().children(recursive=True)) - others:
            with suppress(psutil.Error):
                times = process.cpu_times()
                used += times.user + times.system
        await browser.close()
        return used


def _percentile_ms(seconds: Sequence[float], percent: float) -> float:
    return round(1000 * float(np.percentile(seconds, percent)), 1)


if __name__ == "__main__":
    sys.exit(main())
