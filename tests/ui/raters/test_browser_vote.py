"""The raters' page in a real Chromium: typing never votes, and each view belongs to one battle."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.ui.conftest import RunningPage, wait_until

pytestmark = pytest.mark.browser
QUESTION = "A better question about a bill?"


@pytest.fixture
def page(chromium: Browser, running_page: RunningPage) -> Iterator[Page]:
    """The open page in a browser of its own, with a pair on it."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(f"{running_page.url}/vote/")
        expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
        yield page


def test_a_typed_question_casts_no_vote(page: Page):
    page.get_by_text("Ask your own question").click()
    page.keyboard.type(QUESTION)
    expect(page.locator("#vote-own textarea")).to_have_value(QUESTION)
    expect(page.locator("#vote-reveal")).to_be_hidden()
    expect(page.locator("#vote-count")).to_have_text("No votes yet")


def test_an_own_question_is_not_replaced_by_a_stored_pair(chromium: Browser, running_page: RunningPage):
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{running_page.url}/vote/")
        page.get_by_text("Ask your own question").click()
        page.fill("#vote-own textarea", QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
        # The stored pair of the first request has arrived too.
        page.wait_for_function(
            "performance.getEntriesByType('resource').filter((each) => each.name.endsWith('/api/next')).length >= 2"
        )
        expect(page.locator("#vote-question")).to_contain_text(QUESTION)


def test_the_old_answers_are_gone_when_a_question_is_sent(page: Page):
    page.get_by_text("Ask your own question").click()
    page.fill("#vote-own textarea", QUESTION)
    # In one step, so that no answer arrives in between.
    state = page.evaluate(
        """() => {
          const box = document.querySelector("#vote-own textarea");
          box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
          box.dispatchEvent(new KeyboardEvent("keypress", { key: "Enter", bubbles: true, cancelable: true }));
          return {
            question: document.querySelector("#vote-question").innerText,
            answer: document.querySelector("#vote-answer-a").innerText,
            buttons: document.querySelector("#vote-left").getClientRects().length,
          };
        }"""
    )
    assert QUESTION in state["question"]
    assert "working days" not in state["answer"]
    assert state["buttons"] == 0


def test_no_letter_is_clipped(page: Page):
    clipped = page.evaluate(
        """() => [...document.querySelectorAll("#vote-answer-a, #vote-answer-b")].flatMap((answer) => {
          const text = document.createTreeWalker(answer, NodeFilter.SHOW_TEXT);
          const range = document.createRange();
          const found = [];
          while (text.nextNode()) {
            if (!text.currentNode.data.trim()) continue;
            range.selectNodeContents(text.currentNode);
            const left = range.getBoundingClientRect().left;
            for (let box = text.currentNode.parentElement; box; box = box.parentElement) {
              const hides = getComputedStyle(box).overflowX !== "visible";
              if (hides && box.getBoundingClientRect().left > left - 1) found.push(text.currentNode.data.slice(0, 20));
              if (box.classList.contains("card")) break;
            }
          }
          return found;
        })"""
    )
    assert clipped == []


def test_headings_and_focus_lead_through_the_page(page: Page):
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.get_by_role("heading", name=re.compile("Answer [AB]"))).to_have_count(2)
    page.keyboard.press("b")
    expect(page.locator("#vote-reveal")).to_contain_text("You chose B")
    expect(page.locator("#vote-next")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
    expect(page.locator("#vote-question")).to_be_focused()


def test_a_late_pair_is_dropped(chromium: Browser, running_page: RunningPage):
    """The vote's answer is held back until another pair is on the page: it must not change that one.

    A vote on that other pair is not lost either; it is sent after the first one.
    """
    held: list[Route] = []
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        # Set up before the page is loaded, which could otherwise send its next request past a new route.
        page.route("**/vote/api/vote", lambda route: held.append(route))
        page.goto(f"{running_page.url}/vote/")
        expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
        with page.expect_request("**/vote/api/vote"):
            page.keyboard.press("a")
        page.get_by_text("Ask your own question").click()
        page.fill("#vote-own textarea", QUESTION)
        page.keyboard.press("Enter")
        expect(page.locator("#vote-left")).to_be_visible(timeout=20_000)
        expect(page.locator("#vote-question")).to_contain_text(QUESTION)
        page.keyboard.press("b")
        wait_until(page, lambda: len(held) == 1)
        with page.expect_request("**/vote/api/vote"):
            held[0].continue_()
        expect(page.locator("#vote-count")).to_contain_text("1 vote")
        expect(page.locator("#vote-question")).to_contain_text(QUESTION)
        expect(page.locator("#vote-reveal")).to_be_hidden()
        wait_until(page, lambda: len(held) == 2)
        held[1].continue_()
        expect(page.locator("#vote-reveal")).to_contain_text("You chose B")
        expect(page.locator("#vote-count")).to_contain_text("2 votes")
