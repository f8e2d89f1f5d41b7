"""CORS as a real Chromium enforces it: a page of the named origin reads the gateway's answer, any other does not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Page, sync_playwright

from models.database import Database
from models.keys import create_key
from models.settings.settings import Settings
from tests.serve.gateways import serving
from tests.ui.conftest import CHROMIUM, CHROMIUM_ARGUMENTS

pytestmark = pytest.mark.browser
ASK = """async ([url, key]) => {
  try {
    const answer = await fetch(url, {headers: {authorization: `Bearer ${key}`, "x-stainless-lang": "js"}});
    return [answer.status, answer.headers.get("x-request-id"), (await answer.json()).object];
  } catch (error) { return [error.name]; }
}"""


class _Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server names it so
        """Says nothing."""


@pytest.fixture
def origins() -> Iterator[tuple[str, str]]:
    """Two web pages' origins, of two servers."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Empty) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{servers[0].server_port}", f"http://127.0.0.1:{servers[1].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser.new_page()
        browser.close()


def test_a_browser_lets_the_named_origin_read_and_no_other(
    settings: Settings, database: Database, page: Page, origins: tuple[str, str]
) -> None:
    key = create_key(database, name="web", role="client")
    with serving(settings.model_copy(update={"cors_origins": origins[:1]}), database) as gateway:
        arguments = [f"{gateway.base_url}/models", key]
        page.goto(origins[0])
        status, number, kind = page.evaluate(ASK, arguments)
        assert (status, kind) == (200, "list")
        assert number.startswith("req_"), "the page may read what it needs to report a fault"
        assert page.evaluate(ASK, [arguments[0], "pk-wrong"])[0] == 401, "an error can be read too"
        page.goto(origins[1])
        assert page.evaluate(ASK, arguments) == ["TypeError"]
