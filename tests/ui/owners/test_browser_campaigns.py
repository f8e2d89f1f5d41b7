"""A campaign in a real Chromium from its form to its verdict: an owner, and a rater who was invited, on a phone."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import NAMES, RunningPage, open_signed_in

pytestmark = pytest.mark.browser
NAME = "browser-story"


def test_a_campaign_without_a_terminal(chromium: Browser, running_page: RunningPage):
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        owner = context.new_page()
        open_signed_in(owner, running_page, "Campaigns")
        create(owner)
        owner.click("#campaigns-open")
        expect(owner.locator("#campaigns-progress .badge").first).to_have_text("open")
        link = invite(owner)
        with chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as phone:
            vote_to_the_end(phone.new_page(), link)
        owner.click("#campaigns-refresh")
        expect(owner.locator("#campaigns-progress")).to_contain_text("3 of 3")
        owner.locator("#campaigns-close").click()
        owner.locator("#campaigns-close-yes").click()
        expect(owner.locator("#campaigns-progress .badge").first).to_have_text("closed")
        expect(owner.locator("#campaigns-report")).to_contain_text(NAMES[0])
        owner.locator("#campaigns-report summary").first.click()
        expect(owner.locator("#campaigns-report table").first).to_contain_text("Ann Smith")
        with owner.expect_download() as export:
            owner.get_by_text("Export (.zip)").click()
        assert export.value.suggested_filename == f"{NAME}.zip"


def create(owner: Page) -> None:
    owner.get_by_text("Create a campaign").click()
    owner.fill("#campaign-name input, #campaign-name textarea", NAME)
    owner.fill("#campaign-title input, #campaign-title textarea", "Welche hilft mehr?")
    for model in NAMES[:2]:
        owner.locator("#campaign-models input").click()
        owner.get_by_role("option", name=model).click()
    owner.keyboard.press("Escape")
    owner.fill("#campaign-typed textarea", "Where is it?\nWhen does it come?\nWho brings it?")
    owner.fill("#campaign-welcome textarea", "Danke, dass Sie helfen.")
    owner.fill("#campaign-thanks textarea", "Wir melden uns im Mai.")
    owner.fill("#campaign-criteria input, #campaign-criteria textarea", "Richtig")
    owner.get_by_label("Language of the page").click()
    owner.get_by_role("option", name="Deutsch").click()
    owner.click("#campaign-create")
    expect(owner.locator("#campaign-create-line .notice.good")).to_be_visible(timeout=15_000)


def invite(owner: Page) -> str:
    owner.get_by_text("Invite people").click()
    owner.fill("#invite-person input, #invite-person textarea", "Ann Smith")
    owner.click("#invite-make")
    expect(owner.locator("#invite-link")).to_contain_text("/vote/i/")
    return owner.locator("#invite-link").inner_text()


def vote_to_the_end(page: Page, link: str) -> None:
    page.goto(link)
    expect(page).to_have_url(re.compile(f"/vote/c/{NAME}/$"))
    expect(page.locator("#vote-welcome")).to_contain_text("Danke, dass Sie helfen.")
    assert page.evaluate("document.documentElement.lang") == "de"
    page.click("#vote-begin")
    for count in range(1, 4):
        expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
        page.locator("#vote-criteria label").first.click()
        page.click("#vote-left")
        expect(page.locator("#vote-count")).to_have_text(f"{count} von 3")
        if count == 1:
            expect(page.locator("#vote-undo")).to_be_visible(timeout=20_000)
            page.click("#vote-undo")
            expect(page.locator("#vote-count")).to_have_text("0 von 3")
            page.click("#vote-right")
            expect(page.locator("#vote-count")).to_have_text("1 von 3")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#vote-end")).to_contain_text("Wir melden uns im Mai.", timeout=20_000)
    page.reload()
    expect(page.locator("#vote-end")).to_be_visible(timeout=20_000)
