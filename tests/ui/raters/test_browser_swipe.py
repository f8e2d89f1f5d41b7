"""Swipes on the raters' page, by real touch events in a Chromium of 390 pixels."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.lifecycle import create_campaign, list_campaigns, open_campaign
from models.database import open_database
from tests.ui.conftest import NAMES, RunningPage, wait_until

pytestmark = pytest.mark.browser
NAME = "swiped"
WAIT_MS = 30_000


@pytest.fixture
def phone(chromium: Browser, running_page: RunningPage) -> Iterator[Page]:
    """A pair of a campaign whose names are shown at its end, on a phone."""
    database = open_database(running_page.settings)
    if NAME not in {each.name for each in list_campaigns(database)}:
        new = NewCampaign(NAME, NAMES[:2], PromptSource(stored="all"), access="open", reveal="at_end")
        create_campaign(database, new, Path())
        open_campaign(database, NAME)
    database.dispose()
    with chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(f"{running_page.url}/vote/c/{NAME}/")
        page.locator("#vote-begin").tap()
        expect(page.locator("#vote-left")).to_be_visible(timeout=WAIT_MS)
        yield page


def swipe(page: Page, place: str, across: float, down: float = 0) -> None:
    """One finger moves by this many pixels, from the middle of an element, at a finger's pace.

    After a jump the browser would treat the next tap as one that stops a fling.
    """
    box = page.locator(place).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 9):
        point = {"x": x + across * step / 8, "y": y + down * step / 8}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        page.wait_for_timeout(30)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    touch.detach()


def test_a_swipe_votes_and_can_be_taken_back(phone: Page):
    expect(phone.locator(".swipe")).to_be_visible()
    for place, across, chosen in (("#vote-ballot", -150, "You chose A."), ("#vote-question", 150, "You chose B.")):
        with phone.expect_request("**/api/vote"):
            swipe(phone, place, across)
        line = phone.locator("#vote-line")
        expect(line).to_contain_text(chosen, timeout=WAIT_MS)
        expect(phone.locator("#vote-count")).to_have_text("1 of 24")
        line.get_by_role("button", name="Take back the last vote").tap()
        expect(line).to_contain_text("taken back", timeout=WAIT_MS)
        expect(phone.locator("#vote-count")).to_have_text("0 of 24")
        expect(phone.locator("#vote-left")).to_be_visible()


def test_other_gestures_do_not_vote(phone: Page):
    votes: list[str] = []
    phone.on("request", lambda sent: votes.append(sent.post_data or "") if sent.url.endswith("/api/vote") else None)
    swipe(phone, "#vote-ballot", -60)  # too short
    swipe(phone, "#vote-question", 100, down=120)  # not to the side
    swipe(phone, "#vote-ballot", 0, down=-200)  # a scroll
    swipe(phone, "#vote-answer-a", -200)  # from answer A to answer B
    phone.wait_for_function("document.querySelector('.sides').scrollLeft > 100")
    phone.evaluate("getSelection().selectAllChildren(document.querySelector('#vote-question p'))")
    swipe(phone, "#vote-question", -150)  # with selected text
    phone.evaluate("getSelection().removeAllRanges()")
    assert votes == []
    swipe(phone, "#vote-ballot", 150)
    wait_until(phone, lambda: len(votes) == 1)
    assert '"choice":"right"' in votes[0]
    expect(phone.locator("#vote-count")).to_have_text("1 of 24", timeout=WAIT_MS)


def test_a_swipe_does_not_vote_if_names_follow_each_vote(chromium: Browser, running_page: RunningPage):
    with chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as context:
        page = context.new_page()
        page.goto(f"{running_page.url}/vote/")
        expect(page.locator("#vote-left")).to_be_visible(timeout=WAIT_MS)
        expect(page.locator(".swipe")).to_be_hidden()
        swipe(page, "#vote-ballot", -150)
        page.locator("#vote-right").tap()
        expect(page.locator("#vote-reveal")).to_contain_text("You chose B", timeout=WAIT_MS)
        expect(page.locator("#vote-count")).to_have_text("1 vote so far")
