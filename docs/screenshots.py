"""Takes the README's screenshots from a running demo with headless Chromium: `python docs/screenshots.py`.

The votes on the leaderboard and in the campaign are the script's, not people's: it prefers the answer that covers more
of the expected topics. It works in a temporary home.
"""

import asyncio
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import Battle, next_battle
from evals.campaigns.campaign import OPEN, NewCampaign, PromptSource
from evals.campaigns.invites import NewInvite, create_invite
from evals.campaigns.lifecycle import close_campaign, create_campaign, open_campaign
from evals.campaigns.raters import join_by_invite
from evals.scorers.sample import Sample
from evals.scorers.text_match import topic_coverage
from evals.votes.prompts import prompts
from models.chat.completer import gateway_completer
from models.database import Database, open_database
from models.errors import Conflict
from models.jobs.jobs import enqueue, get_job
from models.settings.settings import Settings, load_settings
from serve import start

IMAGES = Path(__file__).resolve().parent / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MODELS = ("demo-base", "support-concise", "support-friendly")
VOTES = 60
CAMPAIGN = "acceptance"
PEOPLE = ("Ann Smith", "Ben Roth", "Cem Acar", "Dana Wood", "Eva Lind", "Finn Moe")
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
WORDS = re.compile(r"\w{3,}")
WAIT_MS = 60_000


def main() -> None:
    """Starts the demo, votes, takes the screenshots and stops."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="parley-screenshots-") as home:
        settings = load_settings(home=Path(home), port=8591, page_port=8592)
        with start(settings, command="demo") as running:
            running.wait_ready(300)
            database = open_database(settings)
            asyncio.run(vote(settings, database))
            asyncio.run(hold_campaign(settings, database))
            judge(settings, database)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
                for size in SIZES:
                    for shade in ("light", "dark"):
                        take(browser, settings.page_url, size, shade)
                browser.close()


async def vote(settings: Settings, database: Database) -> None:
    """Votes as twelve voters who prefer answers that cover the topics, with some noise."""
    rng = random.Random(0)  # noqa: S311 -- not a secret
    for number in range(VOTES):
        await vote_once(settings, database, f"screenshot-{number % 12}", OPEN, rng)


async def vote_once(settings: Settings, database: Database, voter: str, campaign: str, rng: random.Random) -> None:
    """One vote of a voter on their next pair.

    Raises:
        Conflict: nothing is left to vote on.
    """
    battle = await next_battle(database, voter, lambda model: gateway_completer(settings, model), campaign)
    cast_vote(database, battle.id, voter, choice_of(battle, database, rng))


def choice_of(battle: Battle, database: Database, rng: random.Random) -> Any:
    """The side that covers more of the expected topics, with some noise."""
    topics = {prompt.messages[-1].content: prompt.topics for prompt in prompts(database)}
    score, sample = topic_coverage(), Sample(topics=topics[battle.messages[-1].content])
    left, right = ((score(sample, side) or 0) + rng.gauss(0, 0.25) for side in (battle.left, battle.right))
    return "tie" if abs(left - right) < 0.1 else "left" if left > right else "right"


async def hold_campaign(settings: Settings, database: Database) -> None:
    """A campaign that six invited people vote on to its end."""
    new = NewCampaign(
        CAMPAIGN, MODELS[1:], PromptSource(stored="all"), title="Which answer should our customers get?",
        question="Which answer would you send to the customer?", votes_per_pair=2,
    )  # fmt: skip
    create_campaign(database, new, settings.runs_dir)
    open_campaign(database, CAMPAIGN)
    invites = [create_invite(database, NewInvite(CAMPAIGN, person)) for person in PEOPLE]
    voters = [join_by_invite(database, invite).voter for invite in invites]
    rng = random.Random(1)  # noqa: S311 -- not a secret
    while voters:
        for voter in list(voters):
            try:
                await vote_once(settings, database, voter, CAMPAIGN, rng)
            except Conflict:  # nothing is left for them
                voters.remove(voter)
    close_campaign(database, CAMPAIGN)


def judge(settings: Settings, database: Database) -> None:
    """Runs the toy judge on two models through the worker, as the page's button does."""
    params = {"judge": "support-judge", "model_a": "demo-base", "model_b": "support-friendly", "prompts": 3}
    job_id = enqueue(database, "judge", params)
    while not get_job(database, job_id).over:
        time.sleep(0.5)


def open_tab(page: Page, name: str) -> None:
    """Opens a tab of the owners' app; on a phone the last ones are in the overflow menu."""
    tab = page.get_by_role("tab", name=name)
    if tab.count():
        tab.click()
    else:
        page.get_by_label("More tabs").click()
        page.locator(".overflow-dropdown button", has_text=name).click()


def take(browser: Browser, address: str, size: str, shade: Any) -> None:
    """Takes every screenshot at one size and in one shade."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=shade)
    page = context.new_page()

    def screenshot(name: str) -> None:
        page.wait_for_timeout(700)  # animations have ended
        page.screenshot(path=IMAGES / f"{name}-{size}-{shade}.png")

    page.goto(address)
    expect(page.locator("#chat-model input")).to_have_value(re.compile("●"), timeout=WAIT_MS)
    page.fill("#chat-text textarea", "Please cancel my order 48213977.")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-log [data-testid=bot]").last).to_contain_text(WORDS, timeout=WAIT_MS)
    expect(page.locator("#chat-again")).to_be_enabled(timeout=WAIT_MS)
    screenshot("chat")
    open_tab(page, "Compare")
    page.wait_for_timeout(1500)
    page.fill("#compare-prompt textarea", "Where is my order 48213977? It should have arrived on Monday.")
    page.keyboard.press("Enter")
    for side in (1, 2):
        expect(page.locator(f"#compare-speed-{side}")).to_contain_text("tokens/s", timeout=WAIT_MS)
    expect(page.locator("#compare-prompt .submit-button")).to_be_visible(timeout=WAIT_MS)
    screenshot("compare")
    open_tab(page, "Judge")
    page.wait_for_timeout(2500)
    screenshot("judge")
    open_tab(page, "Campaigns")
    expect(page.locator("#campaigns-report .verdict")).to_have_count(1, timeout=WAIT_MS)
    page.locator("#campaigns-report .verdict").scroll_into_view_if_needed()
    screenshot("campaigns")
    open_tab(page, "Leaderboard")
    page.wait_for_timeout(2500)
    screenshot("leaderboard")
    open_tab(page, "Models")
    page.wait_for_timeout(2500)
    screenshot("models")
    page.goto(f"{address}/vote/")
    expect(page.locator("#vote-left")).to_be_visible(timeout=WAIT_MS)
    screenshot("vote")
    page.keyboard.press("a")
    expect(page.locator("#vote-reveal")).to_contain_text("A was", timeout=WAIT_MS)
    screenshot("reveal")
    page.goto(f"{address}/bot/support-friendly/")
    page.locator("#bot-chip-1").click(timeout=WAIT_MS)
    expect(page.locator("#bot-log [data-testid=bot]")).to_have_count(2, timeout=WAIT_MS)  # the first one greets
    expect(page.locator("#bot-log [data-testid=bot]").last).to_contain_text(WORDS, timeout=WAIT_MS)
    expect(page.locator("#bot-text .submit-button")).to_be_visible(timeout=WAIT_MS)
    screenshot("bot")
    context.close()


if __name__ == "__main__":
    main()
