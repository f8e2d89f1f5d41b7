"""Takes the README's screenshots of a running Parley: python -m tests.ui.take_screenshots PAGE FOLDER [OWNER_KEY].

It asks questions and casts one vote for each picture of the reveal, as a person would: run it on a demo.
"""

import re
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.ui.conftest import CHROMIUM, CHROMIUM_ARGUMENTS

SIZES = {"wide": (1280, 800), "phone": (390, 844)}
QUESTION = "Where is my order 48213977? It should have come on Monday."
WAIT_MS = 60_000
WORDS = re.compile(r"\w{3,}")


def main(address: str, folder: Path, key: str | None = None) -> None:
    """One picture of each app and tab, at both sizes, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for size in SIZES:
            for shade in ("light", "dark"):
                _one_look(browser, address, folder, key, size, shade)
        browser.close()


def _one_look(browser: Browser, address: str, folder: Path, key: str | None, size: str, shade: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=shade)  # pyrefly: ignore
    page = context.new_page()

    def picture(name: str) -> None:
        page.wait_for_timeout(700)  # what slides or fades has come to rest
        page.screenshot(path=folder / f"{name}-{size}-{shade}.png")

    page.goto(address)
    if key:
        page.fill("#key", key)
        page.keyboard.press("Enter")
    _chat(page)
    picture("chat")
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_timeout(1500)
    page.fill("#compare-prompt textarea", QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#compare-prompt .submit-button")).to_be_visible(timeout=WAIT_MS)
    for side in (1, 2):
        expect(page.locator(f"#compare-speed-{side}")).to_contain_text("tokens/s", timeout=WAIT_MS)
    picture("compare")
    page.get_by_role("tab", name="Judge").click()
    page.wait_for_timeout(2500)
    picture("judge")
    page.get_by_role("tab", name="Leaderboard").click()
    page.wait_for_timeout(2500)
    picture("leaderboard")
    page.goto(f"{address}/vote/")
    expect(page.locator("#vote-left")).to_be_visible(timeout=WAIT_MS)
    picture("vote")
    page.keyboard.press("a")
    expect(page.locator("#vote-reveal")).to_contain_text("A was", timeout=WAIT_MS)
    picture("reveal")
    page.goto(f"{address}/bot/support-friendly/")
    page.locator("#bot-chip-1").click(timeout=WAIT_MS)
    expect(page.locator("#bot-log [data-testid=bot]").last).to_contain_text(WORDS, timeout=WAIT_MS)
    expect(page.locator("#bot-text .submit-button")).to_be_visible(timeout=WAIT_MS)
    picture("bot")
    context.close()


def _chat(page: Page) -> None:
    expect(page.locator("#chat-model input")).to_have_value(re.compile("●"), timeout=WAIT_MS)
    page.fill("#chat-text textarea", QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#chat-log [data-testid=bot]").last).to_contain_text(WORDS, timeout=WAIT_MS)
    expect(page.locator("#chat-again")).to_be_enabled(timeout=WAIT_MS)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), *sys.argv[3:4])
