"""A campaign in a real Chromium from its form to its report, all in the page.

An owner adds a model, records it and retires it, creates a campaign over two live models and the recorded one, opens it
and invites six people. Three vote at 1280 pixels and three on a phone, to the end. The owner closes it and reads.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.ui.conftest import (
    NAMES,
    RunningPage,
    expect_no_sideways_scroll,
    open_signed_in,
    open_tab,
    running,
    wait_until,
)

pytestmark = pytest.mark.browser
NAME, OLD = "acceptance", "dugong-old"
PEOPLE = ("Ann Smith", "Ben Roth", "Cem Acar", "Dana Wood", "Eva Lind", "Finn Moe")
QUESTIONS, PAIRS_OF_MODELS = 6, 3
VOTES = QUESTIONS * PAIRS_OF_MODELS
WAIT_MS = 30_000
SHOTS = os.environ.get("PARLEY_TEST_SHOTS")


@pytest.fixture
def worker(running_page: RunningPage) -> Iterator[None]:
    """A worker beside the running page: it records and prepares answers."""
    with running(running_page.settings, ["parley", "worker"]):
        yield


@pytest.fixture
def owner(chromium: Browser, running_page: RunningPage) -> Iterator[Page]:
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        open_signed_in(page, running_page, "Models")
        yield page


def test_a_campaign_without_a_terminal(
    chromium: Browser, running_page: RunningPage, worker: None, owner: Page, tmp_path: Path
):
    record(owner, running_page.settings.gateway_url)
    open_tab(owner, "Campaigns")
    create(owner)
    add_gold_pair(owner)
    shot(owner, "draft")
    owner.click("#campaigns-open")
    expect(owner.locator("#campaigns-progress .badge").first).to_have_text("open", timeout=WAIT_MS)
    expect(owner.locator("#campaigns-gold")).to_be_hidden()
    owner.get_by_text("Invite people").click()
    links = [invite(owner, person) for person in PEOPLE]
    with ExitStack() as stack:
        contexts = [stack.enter_context(context_of(chromium, place)) for place in range(len(PEOPLE))]
        raters = [context.new_page() for context in contexts]
        for rater, link in zip(raters, links, strict=True):
            arrive(rater, link)
        vote_to_the_end(raters)
        for rater in raters:
            rater.reload()
            expect(rater.locator("#vote-end")).to_contain_text("Wir melden uns im Mai.", timeout=WAIT_MS)
    read_the_report(owner, tmp_path)


def record(owner: Page, gateway: str) -> None:
    """Adds a hosted model with prices, records its answers to the questions on parcels, and retires it."""
    owner.get_by_text("Add a hosted model").click()
    owner.fill("#models-name input, #models-name textarea", OLD)
    owner.fill("#models-address input, #models-address textarea", gateway)
    for side in ("in", "out"):
        owner.fill(f"#models-price-{side} input, #models-price-{side} textarea", "1")
    owner.click("#models-add")
    expect(owner.locator("#models-which input")).to_have_value(OLD, timeout=WAIT_MS)
    owner.get_by_text("Record its answers before it is switched off").click()
    owner.fill("#models-record-prompts input, #models-record-prompts textarea", "parcels")
    owner.fill("#models-record-samples input", "1")
    owner.fill("#models-record-limit input, #models-record-limit textarea", "5")
    owner.click("#models-record")
    line = owner.locator("#models-record-line")
    expect(line).to_contain_text("has started", timeout=WAIT_MS)

    def recorded() -> bool:
        owner.click("#models-record-cost")
        expect(line).to_contain_text(f"{OLD}:")
        return f"{QUESTIONS} answers are already recorded" in line.inner_text()

    wait_until(owner, recorded, seconds=60)
    owner.click("#models-retire")
    owner.click("#models-yes")
    expect(owner.locator("#models-line")).to_contain_text("is retired", timeout=WAIT_MS)


def create(owner: Page) -> None:
    owner.get_by_text("Create a campaign").click()
    owner.fill("#campaign-name input, #campaign-name textarea", NAME)
    owner.fill("#campaign-title input, #campaign-title textarea", "Welche hilft mehr?")
    for model in (*NAMES[:2], f"{OLD}@recorded"):
        owner.locator("#campaign-models input").click()
        owner.get_by_role("option", name=model).click()
    owner.keyboard.press("Escape")
    owner.locator("#campaign-source input").click()
    owner.get_by_role("option", name="Stored questions on parcels").click()
    owner.fill("#campaign-welcome textarea", "Danke, dass Sie helfen.")
    owner.fill("#campaign-thanks textarea", "Wir melden uns im Mai.")
    owner.fill("#campaign-criteria input, #campaign-criteria textarea", "Richtig")
    owner.get_by_label("Language of the page").click()
    owner.get_by_role("option", name="Deutsch").click()
    owner.click("#campaign-create")
    expect(owner.locator("#campaign-create-line .notice.good")).to_be_visible(timeout=WAIT_MS)
    expect(owner.locator("#campaigns-chosen input")).to_have_value(re.compile(re.escape(NAME)))


def add_gold_pair(owner: Page) -> None:
    """Asks for a gold pair and leaves it: six people are too few to spend votes on it."""
    owner.get_by_text("Gold pairs: do raters read carefully?").click()
    owner.locator("#gold-prompt input").click()
    owner.get_by_role("option", name="Where is order 0?").click()
    owner.fill("#gold-better textarea", "On its way.")
    owner.fill("#gold-worse textarea", "On its way.")
    owner.click("#gold-add")
    expect(owner.locator("#gold-line")).to_contain_text("two different answers", timeout=WAIT_MS)


def invite(owner: Page, person: str) -> str:
    owner.fill("#invite-person input, #invite-person textarea", person)
    owner.click("#invite-make")
    expect(owner.locator("#invite-made .made")).to_contain_text(person, timeout=WAIT_MS)
    return owner.locator("#invite-link").inner_text()


def context_of(chromium: Browser, place: int) -> BrowserContext:
    """The first three people sit at a desk, the others have a phone."""
    if place < len(PEOPLE) // 2:
        return chromium.new_context(viewport={"width": 1280, "height": 900})
    return chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True)


def arrive(rater: Page, link: str) -> None:
    rater.goto(link)
    expect(rater).to_have_url(re.compile(f"/vote/c/{NAME}/$"))
    expect(rater.locator("#vote-welcome")).to_contain_text("Danke, dass Sie helfen.", timeout=WAIT_MS)
    expect(rater.locator("html")).to_have_attribute("lang", "de")
    rater.click("#vote-begin")


def vote_to_the_end(raters: list[Page]) -> None:
    """All vote in turn until nothing is left; the first one takes a vote back, the last one's phone is looked at."""
    voted = dict.fromkeys(range(len(raters)), 0)
    at_work = dict(enumerate(raters))
    undone = False
    while at_work:
        for place, rater in list(at_work.items()):
            expect(rater.locator("#vote-left:visible, #vote-end:visible")).to_have_count(1, timeout=WAIT_MS)
            if rater.locator("#vote-end").is_visible():
                del at_work[place]
                continue
            if place == 3 and not voted[place]:
                expect_no_sideways_scroll(rater)
                shot(rater, "pair")
            choose(rater, place, voted[place])
            voted[place] += 1
            expect(rater.locator("#vote-count")).to_have_text(re.compile(f"^{voted[place]} von "))
            if not undone:
                undone = True
                expect(rater.locator("#vote-undo")).to_be_visible(timeout=WAIT_MS)
                rater.click("#vote-undo")
                expect(rater.locator("#vote-count")).to_have_text(re.compile("^0 von "))
                voted[place] = 0
    assert sum(voted.values()) == VOTES
    assert min(voted.values()) >= 1


def choose(rater: Page, place: int, number: int) -> None:
    """People at a desk use the keys, those on a phone tap."""
    left = (place + number) % 2 == 0
    if place < len(PEOPLE) // 2:
        rater.keyboard.press("a" if left else "b")
    else:
        rater.locator("#vote-criteria label").first.tap()
        rater.locator("#vote-left" if left else "#vote-right").tap()


def read_the_report(owner: Page, folder: Path) -> None:
    owner.click("#campaigns-refresh")
    expect(owner.locator("#campaigns-progress")).to_contain_text(f"{VOTES} of {VOTES}", timeout=WAIT_MS)
    expect(owner.locator("#campaigns-progress")).to_contain_text(re.compile("6\\s*people have voted"))
    owner.click("#campaigns-close")
    owner.click("#campaigns-close-yes")
    expect(owner.locator("#campaigns-progress .badge").first).to_have_text("closed", timeout=WAIT_MS)
    report = owner.locator("#campaigns-report")
    expect(report.locator(".verdict")).to_have_count(2 * PAIRS_OF_MODELS)  # overall, and for the criterion
    expect(report).to_contain_text(re.compile(rf"{OLD}@recorded: recorded on \d{{4}}-"))
    expect(report.get_by_role("row", name="people like them").first).to_be_visible()
    report.locator("summary").first.click()
    expect(report.locator("details table").first).to_be_visible()
    # A pair of models lists who compared it; chance decides which of them a person who votes once meets.
    for person in PEOPLE:
        expect(report.locator("details table").filter(has_text=person).first).to_be_attached()
    shot(owner, "report")
    with owner.expect_download() as bundle:
        owner.get_by_text("Export (.zip)").click()
    assert bundle.value.suggested_filename == f"{NAME}.zip"
    with owner.expect_download() as votes:
        owner.locator("#campaigns-export [data-export=csv]").click()
    votes.value.save_as(folder / "votes.csv")
    assert (folder / "votes.csv").read_text().count(f",{NAME},") == VOTES
    address = owner.get_by_role("link", name="Report as a page").get_attribute("href") or ""
    owner.goto(owner.url.rstrip("/") + address)
    expect(owner.locator("h1")).to_contain_text("closed")
    expect(owner.locator("main")).to_contain_text(f"{OLD}@recorded")
    expect(owner.locator("main")).not_to_contain_text(PEOPLE[0])
    shot(owner, "report-page")


def shot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/campaign-{name}.png", full_page=True)
