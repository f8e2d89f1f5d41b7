"""A real Chromium on the Models tab: a hosted model is added, chosen and retired, at both widths."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.conftest import NAMES, RunningPage, expect_no_sideways_scroll, open_signed_in

pytestmark = pytest.mark.browser


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, chromium: Browser, running_page: RunningPage) -> Iterator[Page]:
    """The Models tab of an owner who has signed in."""
    with chromium.new_context(viewport={"width": request.param, "height": 844}) as context:
        page = context.new_page()
        open_signed_in(page, running_page, "Models")
        expect(page.locator("#models-table")).to_contain_text(NAMES[0])
        yield page


def test_a_hosted_model_is_added_chosen_and_retired(page: Page) -> None:
    name = f"far-{page.viewport_size['width'] if page.viewport_size else ''}"
    page.get_by_text("Add a hosted model").click()
    page.fill("#models-name input, #models-name textarea", name)
    page.fill("#models-address input, #models-address textarea", "https://upstream.example/v1")
    page.fill("#models-price-in input, #models-price-in textarea", "cheap")
    page.click("#models-add")
    expect(page.locator("#models-line")).to_contain_text("not a price")
    page.fill("#models-price-in input, #models-price-in textarea", "0.30")
    page.click("#models-add")
    expect(page.locator("#models-line")).to_contain_text("is registered")
    row = page.locator("#models-table tr", has_text=name)
    expect(row).to_contain_text("hosted")
    expect(page.locator("#models-which input")).to_have_value(name)
    expect_no_sideways_scroll(page)
    page.click("#models-retire")
    expect(page.locator("#models-no")).to_be_visible()
    no = page.locator("#models-no").bounding_box()
    assert no is not None
    assert no["x"] + no["width"] <= page.evaluate("window.innerWidth")  # it was cut off on a phone
    page.click("#models-no")
    expect(row).to_have_count(1)
    page.click("#models-retire")
    page.click("#models-yes")
    expect(page.locator("#models-line")).to_contain_text("is retired")
    expect(row).to_have_count(0)
