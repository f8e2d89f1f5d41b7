"""The page over HTTPS in a real Chromium: sign-in, a tab, and a vote."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from evals.campaigns.campaign import OPEN
from evals.campaigns.lifecycle import add_model
from evals.votes.prompts import add_prompts
from models.database import open_database, upgrade
from models.keys import create_key
from models.settings.settings import load_settings
from tests.certificates import make_pair
from tests.stack import free_ports
from tests.ui.conftest import NAMES, RunningPage, open_signed_in, register_models, running

pytestmark = pytest.mark.browser


def test_an_owner_and_a_rater_use_the_page_over_https(chromium: Browser, home: Path, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "page")
    port, page_port = free_ports(2)
    settings = load_settings(
        home=home, port=port, page_port=page_port, page_tls_certificate=pair.certificate, page_tls_key=pair.key
    )
    assert settings.page_url == f"https://127.0.0.1:{page_port}"
    upgrade(settings)
    database = open_database(settings)
    register_models(database, settings.gateway_url)
    for name in NAMES[:2]:
        add_model(database, OPEN, name)
    add_prompts(database, [{"prompt": "Where is order 1?"}], "test")
    owner = create_key(database, name="owner", role="owner")
    database.dispose()
    with (
        running(settings, ["tests.ui.fake_gateway", str(port)], ["parley", "page"]),
        chromium.new_context(ignore_https_errors=True) as context,
    ):
        page = context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        open_signed_in(page, RunningPage(settings.page_url, owner, settings), "Models")
        expect(page.locator("#models-table")).to_contain_text(NAMES[0], timeout=30_000)
        page.goto(f"{settings.page_url}/vote")
        page.click("#vote-left", timeout=30_000)
        expect(page.locator("#vote-count")).to_contain_text("1", timeout=30_000)
        assert {url.partition(":")[0] for url in requested} <= {"https", "data", "blob"}
        cookies = context.cookies()
        assert cookies
        assert all(cookie["secure"] and cookie["httpOnly"] for cookie in cookies), cookies
