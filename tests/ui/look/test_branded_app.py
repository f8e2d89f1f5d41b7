"""The page's head: no trace of Gradio in link previews, and no address of another host."""

import re

import pytest

from tests.ui.conftest import Page


@pytest.mark.parametrize("address", ["/", "/vote/", "/bot/quokka-terse/"])
def test_the_page_is_parleys(open_page: Page, address: str):
    page = open_page.browser().get(address).text
    head = page[: page.index("window.gradio_config")]
    assert "<title>Parley" in head
    assert 'property="og:title" content="Parley' in head
    assert "gradio.app" not in head
    assert "twitter" not in head
    assert "manifest.json" not in page
    # No element makes the browser fetch from another host.
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?:https?:)?//", page)


def test_other_responses_pass_unchanged(open_page: Page):
    client = open_page.browser()
    assert client.get("/config").json()["title"] == "Parley"
    head = client.head("/vote/")
    assert head.status_code == 200
    assert head.text == ""
