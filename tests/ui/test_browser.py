"""A real Chromium against the whole running demo: it chats, compares, votes blind, sees the reveal and the ratings.

`test_blind_until_the_vote` records every byte that /vote sends before a vote and searches them for the models' names.
"""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from evals.ratings.leaderboard import leaderboard
from models.registry.registry import Registry
from tests.stack import Stack
from tests.ui.conftest import NAMES, RunningPage, expect_no_sideways_scroll
from tests.ui.recording_proxy import recording

pytestmark = pytest.mark.browser
ANSWER_MS = 60_000  # an engine on a CPU that others use too


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


def outside_of(page: Page, *homes: str) -> list[str]:
    """A list that collects every address requested by the page and not under one of these."""
    outside: list[str] = []
    good = (*homes, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(good) else outside.append(request.url))
    return outside


def test_chat_streams_and_regenerates(demo_stack: Stack, context: BrowserContext):
    page = context.new_page()
    outside = outside_of(page, demo_stack.page_url)
    page.goto(demo_stack.page_url)
    expect(page.locator("#chat-model input")).to_have_value(re.compile(r"● \S+"))
    page.fill("#chat-text textarea", "Where is my order 48213977?")
    page.keyboard.press("Enter")
    answer = page.locator("#chat-log [data-testid=bot]").last
    expect(answer).to_contain_text(re.compile(r"\w{3,}"), timeout=ANSWER_MS)
    expect(page.locator("#chat-again")).to_be_enabled(timeout=ANSWER_MS)
    # Observed inside the page, since a short answer may come between two polls.
    page.evaluate(
        """() => {
          const watch = new MutationObserver(() => {
            window.wasDisabled ||= document.querySelector("#chat-again").matches(":disabled");
          });
          watch.observe(document.body, { subtree: true, childList: true, attributes: true });
        }"""
    )
    page.click("#chat-again")
    page.wait_for_function("window.wasDisabled")
    expect(page.locator("#chat-again")).to_be_enabled(timeout=ANSWER_MS)
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(1)
    page.click("#chat-new")
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(0)
    assert outside == []


def test_compare_shows_two_answers_and_their_speed(demo_stack: Stack, context: BrowserContext):
    page = context.new_page()
    page.goto(demo_stack.page_url)
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-models")).to_contain_text("demo-base")
    page.fill("#compare-prompt textarea", "I forgot my password")
    page.keyboard.press("Enter")
    for side in (1, 2):
        expect(page.locator(f"#compare-answer-{side}")).to_contain_text(re.compile(r"\w{3,}"), timeout=ANSWER_MS)
        expect(page.locator(f"#compare-speed-{side}")).to_contain_text("to first token", timeout=ANSWER_MS)


def test_blind_until_the_vote(demo_stack: Stack, context: BrowserContext):
    """No byte before the vote names a model; afterwards the reveal does, which shows that the recorder works."""
    registry = Registry(demo_stack.database)
    secret: list[bytes] = []
    for spec in registry.list(include_candidates=True):
        secret += [name.encode() for name in (spec.id, spec.path, spec.bot and spec.bot.title) if name]
    secret += [alias.encode() for alias in registry.aliases()]
    before = leaderboard(demo_stack.database).votes
    with recording(demo_stack.page_url) as (address, recorder):
        page = context.new_page()
        outside = outside_of(page, address)
        page.goto(f"{address}/vote/")
        expect(page.locator("#vote-left")).to_be_visible(timeout=ANSWER_MS)
        # A typed question makes both models answer while the recorder runs.
        page.get_by_text("Ask your own question").click()
        page.fill("#vote-own textarea", "When does the shop open?")
        page.keyboard.press("Enter")
        expect(page.locator("#vote-question")).to_contain_text("When does the shop open?")
        expect(page.locator("#vote-left")).to_be_visible(timeout=ANSWER_MS)
        page.reload()
        expect(page.locator("#vote-question")).to_contain_text("When does the shop open?")
        expect(page.locator("#vote-left")).to_be_visible(timeout=ANSWER_MS)
        page.wait_for_load_state("networkidle")
        exchanges = recorder.exchanges()
        assert any("/api/next" in request and b"left" in response for request, response in exchanges)
        for request, response in exchanges:
            for name in secret:
                assert name.lower() not in response.lower(), f"{name!r} in the answer to {request}"
        page.keyboard.press("a")
        expect(page.locator("#vote-reveal")).to_contain_text("A was", timeout=ANSWER_MS)
        after = b"".join(response for _, response in recorder.exchanges())
        assert sum(name in after for name in secret) >= 2
        assert outside == []
    assert leaderboard(demo_stack.database).votes == before + 1


def test_votes_with_keys_count_once_and_move_the_leaderboard(demo_stack: Stack, context: BrowserContext):
    owner, rater = context.new_page(), context.new_page()
    rater.goto(f"{demo_stack.page_url}/vote/")
    cast = 0
    for key, revealed in (("a", "You chose A"), ("2", "You chose B"), ("t", "a tie"), ("x", "Both are bad")):
        expect(rater.locator("#vote-left")).to_be_visible(timeout=ANSWER_MS)
        expect(rater.locator("#vote-head-a .who")).to_have_count(0)
        rater.keyboard.press(key)
        rater.keyboard.press(key)
        expect(rater.locator("#vote-reveal")).to_contain_text(revealed)
        cast += 1
        expect(rater.locator("#vote-count")).to_contain_text(f"{cast} vote")
        expect(rater.locator(".sides .who")).to_have_count(2)
        shown = set(rater.locator(".sides .who").all_inner_texts())
        assert len(shown) == 2
        assert shown <= {spec.id for spec in Registry(demo_stack.database).list()}
        if cast == 1:
            owner.goto(demo_stack.page_url)
            owner.get_by_role("tab", name="Leaderboard").click()
            votes = leaderboard(demo_stack.database).votes
            expect(owner.locator("#board-votes")).to_have_text(f"{votes} votes", timeout=30_000)
        rater.keyboard.press("ArrowRight")
        expect(rater.locator("#vote-reveal")).to_be_hidden()
    # The board reloads every ten seconds; the button reloads it now.
    owner.click("#board-refresh")
    expect(owner.locator("#board-votes")).to_have_text(f"{votes + cast - 1} votes", timeout=30_000)
    expect(owner.locator("#board-table")).to_contain_text("Too few votes for a rank")
    assert votes + cast - 1 == leaderboard(demo_stack.database).votes


def test_a_bot_alone_on_a_phone(demo_stack: Stack, chromium: Browser):
    with chromium.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.goto(f"{demo_stack.page_url}/bot/support-friendly/")
        spec = Registry(demo_stack.database).resolve("support-friendly")
        assert spec.bot is not None
        expect(page.locator("#bot-title")).to_have_text(spec.bot.title)
        expect(page.locator("#bot-log")).to_contain_text(spec.bot.greeting)
        page.click("#bot-chip-1")
        expect(page.locator("#bot-log [data-testid=user]")).to_have_text(spec.bot.examples[0])
        expect(page.locator("#bot-log [data-testid=bot]").last).to_contain_text(
            re.compile(r"\w{3,}"), timeout=ANSWER_MS
        )
        expect_no_sideways_scroll(page)


def test_stop_keeps_the_text_so_far(running_page: RunningPage, context: BrowserContext):
    page = signed_in(running_page, context)
    page.fill("#chat-text textarea", "a long answer please")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-log [data-testid=bot]").last).to_contain_text("two working", timeout=20_000)
    page.click("#chat-text .stop-button")
    expect(page.locator("#chat-again")).to_be_enabled(timeout=20_000)
    answer = page.locator("#chat-log [data-testid=bot]").last
    kept = answer.inner_text()
    assert len(kept) < 3000  # the whole answer has more and takes 20 seconds
    page.wait_for_timeout(700)  # time in which more of it could arrive
    assert answer.inner_text() == kept


def test_a_new_conversation_stays_new(running_page: RunningPage, context: BrowserContext):
    page = signed_in(running_page, context)
    page.fill("#chat-text textarea", "a long answer please")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-log [data-testid=bot]").last).to_contain_text("two working", timeout=20_000)
    page.click("#chat-new")
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(0)
    page.wait_for_timeout(700)  # time in which more of the old answer could arrive
    assert page.locator("#chat-log [data-testid=user]").count() == 0
    page.fill("#chat-text textarea", "again")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-again")).to_be_enabled(timeout=20_000)
    expect(page.locator("#chat-log [data-testid=user]")).to_have_text("again")


def test_a_bot_that_starts_over_stays_at_its_greeting(running_page: RunningPage, context: BrowserContext):
    page = context.new_page()
    page.goto(f"{running_page.url}/bot/{NAMES[0]}/")
    expect(page.locator("#bot-log")).to_contain_text("Hello there.", timeout=20_000)
    page.fill("#bot-text textarea", "a long answer please")
    page.keyboard.press("Enter")
    expect(page.locator("#bot-log [data-testid=bot]").last).to_contain_text("two working", timeout=20_000)
    page.click("[data-parley=restart]")
    expect(page.locator("#bot-log [data-testid=user]")).to_have_count(0)
    page.wait_for_timeout(700)  # as above
    assert page.locator("#bot-log [data-testid=user]").count() == 0
    expect(page.locator("#bot-log")).to_contain_text("Hello there.")
    page.set_viewport_size({"width": 1920, "height": 1080})  # a projector: nearly its whole width, in large type
    answers = page.locator("#bot-log [data-testid=bot]")
    expect(answers.first).to_have_css("font-size", "26px")
    assert page.evaluate("document.querySelector('#bot-log').clientWidth") > 1600


def test_a_conversation_is_edited_kept_and_named(running_page: RunningPage, context: BrowserContext):
    """The page loads with its lists; a conversation survives a reload, and its messages can be edited."""
    page = signed_in(running_page, context)
    expect(page.locator("#steps .next")).to_have_count(1)
    glyphs = "[...document.querySelectorAll('.fold > button .icon')].map((icon) => getComputedStyle(icon).fontSize)"
    assert set(page.evaluate(glyphs)) == {"0px"}  # drawn: some systems show Gradio's triangle as an emoji
    page.locator("#chat-examples .chip", has_text="Two?").click()
    expect(page.locator("#chat-figures")).to_contain_text("tokens/s", timeout=20_000)
    size = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.querySelector('#chat-log [data-testid=bot]').style.paddingBottom = '1500px'")
    cut = """[...document.querySelectorAll(".stage > *")]
      .filter((part) => part.id !== "chat-log" && part.scrollHeight > part.clientHeight + 1).map((part) => part.id)"""
    assert page.evaluate(cut) == []  # the message box keeps its height beside a long answer
    page.set_viewport_size(size or {"width": 1280, "height": 800})
    page.fill("#chat-temperature input", "7")
    page.fill("#chat-text textarea", "again")
    page.get_by_role("button", name="Send").locator("visible=true").click()  # it has an accessible name
    expect(page.locator("#chat-line")).to_contain_text("Temperature: use a number from 0 to 2, not 7.")
    expect(page.locator("#chat-temperature input")).to_have_value("7")  # refused, not changed
    page.fill("#chat-temperature input", "0.5")
    page.locator("#chat-log [aria-label=Edit]").click()
    page.locator("#chat-log textarea").fill("Three?")
    page.locator("#chat-log [aria-label=Submit]").click()
    expect(page.locator("#chat-log [data-testid=user]")).to_have_text("Three?", timeout=20_000)
    expect(page.locator("#chat-saved [data-chat=open]")).to_have_text("Three?", timeout=20_000)
    page.once("dialog", lambda dialog: dialog.accept("Numbers"))
    page.locator("[data-chat=rename]").click()
    page.reload()
    expect(page.locator("#chat-log [data-testid=user]")).to_have_text("Three?", timeout=20_000)
    page.click("#chat-new")
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(0)
    page.locator("#chat-saved [data-chat=open]", has_text="Numbers").click()
    expect(page.locator("#chat-log [data-testid=bot]")).to_contain_text("Delivery takes two working days")
    page.locator("[data-chat=delete]").click()
    expect(page.locator("#chat-log [data-testid=user]")).to_have_count(0)
    expect(page.locator("#chat-saved")).to_contain_text("Your conversations appear here")


def test_a_comparison_grows_and_leads_to_the_vote(running_page: RunningPage, context: BrowserContext):
    page = signed_in(running_page, context)
    page.locator("#steps [data-tab=Compare]").click()
    page.fill("#compare-prompt textarea", "Where is it & when?")
    page.keyboard.press("Enter")
    expect(page.locator("#compare-vote a")).to_be_visible(timeout=20_000)
    tops = [lane.bounding_box() for lane in page.locator(".lane:visible").all()]
    assert len({box and box["y"] for box in tops}) == 1
    inner = """() => [...document.querySelectorAll(".lane *")].filter((part) =>
      part.scrollHeight > part.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(part).overflowY)).length"""
    assert page.evaluate(inner) == 0
    with context.expect_page() as opened:
        page.locator("#compare-vote a").click()
    expect(opened.value.locator("#vote-question")).to_contain_text("Where is it & when?", timeout=20_000)
    page.set_viewport_size({"width": 390, "height": 844})
    expect_no_sideways_scroll(page)
    bars = """() => [...document.querySelectorAll(".tabs-bar .tab-container")]
      .filter((part) => /auto|scroll/.test(getComputedStyle(part).overflow)).length"""
    assert page.evaluate(bars) == 0


def test_an_error_is_one_line(running_page: RunningPage, context: BrowserContext):
    page = signed_in(running_page, context)
    page.fill("#chat-text textarea", "please fail")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-line .notice.bad")).to_contain_text("out of order", timeout=20_000)
    expect(page.locator("#chat-log [data-testid=user]")).to_have_text("please fail")
    page.wait_for_timeout(4000)  # the models’ states have been read again meanwhile
    expect(page.locator("#chat-line .notice.bad")).to_be_visible()


def test_a_raters_error_names_no_model(running_page: RunningPage, context: BrowserContext):
    with recording(running_page.url) as (address, recorder):
        page = context.new_page()
        page.goto(f"{address}/vote/")
        page.get_by_text("Ask your own question").click()
        page.fill("#vote-own textarea", "please fail")
        page.keyboard.press("Enter")
        expect(page.locator("#vote-line .notice")).to_contain_text("not ready", timeout=30_000)
        for request, response in recorder.exchanges():
            for name in NAMES:
                assert name.encode() not in response, request


def test_light_and_dark(running_page: RunningPage, context: BrowserContext):
    page = context.new_page()
    page.emulate_media(color_scheme="dark")
    page.goto(f"{running_page.url}/vote/")
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.click("[data-parley=shade]")
    expect(page.locator("body")).not_to_have_class(re.compile("dark"))
    page.reload()
    page.wait_for_selector("#vote-question")
    expect(page.locator("body")).not_to_have_class(re.compile("dark"))


def signed_in(running_page: RunningPage, context: BrowserContext) -> Page:
    """The owners' app after signing in by hand."""
    page = context.new_page()
    page.goto(running_page.url)
    expect(page).to_have_url(re.compile("/login"))
    page.fill("#key", running_page.owner)
    page.keyboard.press("Enter")
    expect(page.locator("#chat-model input")).to_have_value(re.compile(r"● \S+"), timeout=15_000)
    return page
