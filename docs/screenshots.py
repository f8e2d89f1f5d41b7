"""Takes the README's pictures from a running demo: `python docs/screenshots.py`, with headless Chromium.

The votes on the pictured leaderboard are the script's, not people's: it votes for the answer that covers more of the
expected topics, over an empty home that is thrown away.
"""

import asyncio
import random
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from evals.arena import cast_vote, next_battle
from evals.prompts import prompts
from evals.scorers import Sample, topic_coverage
from models.completer import gateway_completer
from models.database import Database, open_database
from models.settings import Settings, load_settings
from serve import start

IMAGES = Path(__file__).resolve().parent / "images"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MODELS = ("demo-base", "support-concise", "support-friendly")
VOTES = 150
WAIT_MS = 60_000


def main() -> None:
    """Starts the demo, votes, takes the pictures, stops."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="parley-pictures-") as home:
        settings = load_settings(home=Path(home), port=8591, page_port=8592)
        with start(settings, command="demo") as running:
            running.wait_ready(300)
            database = open_database(settings)
            asyncio.run(vote(settings, database))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
                for width, height, suffix in ((1280, 800, ""), (390, 844, "-phone")):
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
                    take(page, settings.page_url, suffix)
                    page.close()
                browser.close()


async def vote(settings: Settings, database: Database) -> None:
    """Votes as twelve voters who like answers that cover the topics, and now and then err."""
    topics = {prompt.messages[-1].content: prompt.topics for prompt in prompts(database)}
    score, rng = topic_coverage(), random.Random(0)  # noqa: S311 -- a picture's votes are no secret
    for number in range(VOTES):
        voter = f"picture-{number % 12}"
        battle = await next_battle(database, voter, lambda model: gateway_completer(settings, model), MODELS)
        sample = Sample(topics=topics[battle.messages[-1].content])
        left, right = ((score(sample, side) or 0) + rng.gauss(0, 0.25) for side in (battle.left, battle.right))
        choice = "tie" if abs(left - right) < 0.1 else "left" if left > right else "right"
        cast_vote(database, battle.id, voter, choice)


def take(page: Page, address: str, suffix: str) -> None:
    """Every picture at one size."""

    def picture(name: str) -> None:
        page.wait_for_timeout(700)  # transitions end, plots settle
        page.screenshot(path=IMAGES / f"{name}{suffix}.png")

    page.goto(address)
    page.fill("#chat-text textarea", "please cancel my order 48213977")
    page.keyboard.press("Enter")
    page.locator("#chat-again:enabled").wait_for(timeout=WAIT_MS)
    picture("chat")

    page.get_by_role("tab", name="Compare").click()
    page.fill("#compare-prompt textarea", "i was charged twice for order 5530917, what now?")
    page.keyboard.press("Enter")
    for side in (1, 2):
        page.locator(f"#compare-speed-{side}", has_text="to first token").wait_for(timeout=WAIT_MS)
    picture("compare")

    page.get_by_role("tab", name="Leaderboard").click()
    page.locator("#board-votes").wait_for(timeout=WAIT_MS)
    picture("leaderboard")

    page.goto(f"{address}/vote/")
    page.locator("#vote-left").wait_for(timeout=WAIT_MS)
    picture("vote")
    page.keyboard.press("a")
    page.locator("#vote-reveal", has_text="A was").wait_for(timeout=WAIT_MS)
    picture("reveal")

    page.goto(f"{address}/bot/support-friendly")
    page.locator("textarea").first.wait_for(timeout=WAIT_MS)
    page.locator("textarea").first.fill("where is my parcel? order 73194628")
    page.keyboard.press("Enter")
    page.locator("[data-testid=bot]", has_text="73194628").last.wait_for(timeout=WAIT_MS)
    page.wait_for_timeout(3000)  # the answer streams to its end
    picture("bot")


if __name__ == "__main__":
    main()
