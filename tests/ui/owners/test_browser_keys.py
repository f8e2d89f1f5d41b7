"""A real Chromium on the Keys tab: a key is made and shown once, works, is changed and revoked, at both widths."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import RunningPage, expect_no_sideways_scroll, open_signed_in

pytestmark = pytest.mark.browser


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, chromium: Browser, running_page: RunningPage) -> Iterator[Page]:
    """The Keys tab of an owner who has signed in."""
    with chromium.new_context(viewport={"width": request.param, "height": 844}) as context:
        page = context.new_page()
        open_signed_in(page, running_page, "Keys")
        expect(page.locator("#keys-table")).to_contain_text("owner")
        yield page


def test_a_key_is_made_shown_once_changed_and_revoked(page: Page, running_page: RunningPage) -> None:
    name = f"shop {page.viewport_size['width'] if page.viewport_size else ''}"
    heard: list[str] = []
    page.on("response", lambda answer: heard.append(answer.url))
    page.get_by_text("Create or change a key").click()
    page.fill("#keys-name input, #keys-name textarea", name)
    page.fill("#keys-daily-tokens input, #keys-daily-tokens textarea", "200,000")
    page.click("#keys-save")
    code = page.locator("#keys-made code")
    expect(code).to_have_text(re.compile(r"pk-[\w-]{43}"))
    secret = code.inner_text()
    expect(page.locator("#keys-table")).to_contain_text("200,000 tokens/day")
    expect_no_sideways_scroll(page)
    page.click("#keys-refresh")
    expect(code).to_have_count(0)
    assert secret not in page.content()
    assert not [url for url in heard if secret in url]
    page.click("#keys-which input")
    page.get_by_role("option", name=name).click()
    expect(page.locator("#keys-save")).to_have_text("Save")
    page.fill("#keys-daily-tokens input, #keys-daily-tokens textarea", "300000")
    page.click("#keys-save")
    expect(page.locator("#keys-line")).to_contain_text("Saved")
    expect(page.locator("#keys-table")).to_contain_text("300,000 tokens/day")
    page.click("#keys-which input")
    page.get_by_role("option", name=name).click()
    page.click("#keys-revoke")
    page.click("#keys-yes")
    expect(page.locator("#keys-table tr", has_text=name)).to_contain_text("revoked")


def test_an_expired_sign_in_is_reported_once(page: Page) -> None:
    """Gradio's pop-up said "Unexpected token 'T'", with every click and with every look of a timer."""
    page.context.clear_cookies()
    page.click("#keys-refresh")
    door = page.locator("#parley-signed-out")
    expect(door).to_have_text("You have been signed out. Sign in")
    page.click("#keys-refresh")
    page.wait_for_timeout(3500)  # longer than between two looks of the Models tab's timer
    expect(door).to_have_count(1)
    expect(page.locator(".toast-wrap, .toast-body").filter(has_text=re.compile("token|Error"))).to_have_count(0)
    expect_no_sideways_scroll(page)
    door.get_by_role("link").click()
    page.wait_for_url("**/login")
