"""Fixtures of the ui tests: models with conspicuous names, the page as an app and as a process, stand-in views."""

import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import pytest
from playwright.sync_api import Browser, TimeoutError, sync_playwright  # noqa: A004 -- Playwright's own name
from playwright.sync_api import Page as BrowserPage
from pydantic import SecretStr
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from evals.campaigns.campaign import OPEN
from evals.campaigns.lifecycle import add_model
from evals.votes.prompts import add_prompts
from models.database import Database, open_database, upgrade
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import BotProfile, ModelSpec, Upstream
from tests.stack import ROOT, free_ports
from tests.ui.openid_provider import CLIENT_ID, CLIENT_SECRET

NAMES = ("quokka-terse", "wombat-warm", "org/numbat-base")
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


View = TypeVar("View")


def stand_in(view: type[View], **groups: int) -> View:
    """A view whose components are stand-ins that serve as keys; `groups` gives the sizes of the tuples among them."""
    parts: dict[str, Any] = {field.name: gr.State() for field in fields(view)}  # type: ignore[arg-type] -- a dataclass
    groups_of_parts = {name: tuple(gr.State() for _ in range(size)) for name, size in groups.items()}
    return view(**parts | groups_of_parts)


def filled(view: Any, **values: Any) -> dict[Any, Any]:
    """What Gradio hands to a handler whose inputs are these components of the view."""
    given: dict[Any, Any] = {}
    for name, value in values.items():
        component = getattr(view, name)
        given |= dict(zip(component, value, strict=True)) if isinstance(component, tuple) else {component: value}
    return given


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real headless Chromium, one for each file of tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


def open_signed_in(page: BrowserPage, running: "RunningPage", tab: str) -> None:
    """Signs the owner in and opens a tab."""
    page.goto(running.url)
    page.fill("#key", running.owner)
    page.keyboard.press("Enter")
    page.wait_for_selector("#chat-model")
    open_tab(page, tab)


def open_tab(page: BrowserPage, tab: str) -> None:
    """Opens a tab of the owners' app; on a narrow page it is behind the three dots."""
    entry = page.locator(".tabs-bar button:visible", has_text=re.compile(f"^{tab}$"))
    more = page.locator(".tabs-bar .overflow-menu > button:visible")

    def click_tab() -> bool:
        # Gradio measures the bar after the page is there, and moves tabs behind the dots then.
        try:
            if not page.get_by_role("tab", name=tab).is_visible():
                more.click(timeout=5000)
            entry.last.click(timeout=5000)
        except TimeoutError:
            return False
        return True

    wait_until(page, click_tab, seconds=60)


def wait_until(page: BrowserPage, holds: Callable[[], bool], seconds: float = 30) -> None:
    """Waits for a state that is not in the browser's page; the browser's events are handled meanwhile."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not reached within {seconds} s"
        page.wait_for_timeout(50)


def expect_no_sideways_scroll(page: BrowserPage) -> None:
    """The page fits its window's width, at the latest when Gradio has laid out its tabs again; so do the first steps,
    whose overflow would be cut instead of scrolled.
    """
    page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
    page.wait_for_function(
        "[...document.querySelectorAll('.steps li')].every(step => step.getBoundingClientRect().right <= innerWidth)"
    )


def register_models(database: Database, base_url: str) -> None:
    """Three hosted models with odd names: hosted ones count as ready without an engine."""
    for name in NAMES:
        profile = BotProfile(title=f"{name} <b>bot</b>", greeting="Hello there.", examples=("One?", "Two?"))
        spec = ModelSpec(id=name, kind="hosted", upstream=Upstream(base_url=base_url, model=name), bot=profile)
        Registry(database).register(spec)


@dataclass(frozen=True)
class Page:
    """The page as an ASGI app over a database of its own."""

    app: ASGIApp
    settings: Settings
    database: Database

    def browser(self, **headers: str) -> TestClient:
        """A client without cookies that follows no redirects."""
        return TestClient(self.app, follow_redirects=False, headers=headers, base_url="http://127.0.0.1")


def _page(home: Path, **more: Any) -> Page:
    from ui.page import build

    settings = load_settings(home=home, port=9, **more)  # nobody listens at this port
    upgrade(settings)
    database = open_database(settings)
    register_models(database, "http://127.0.0.1:9/v1")
    return Page(build(settings), settings, database)


@pytest.fixture(scope="session")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page without keys. For tests that only read."""
    page = _page(tmp_path_factory.mktemp("open") / "home")
    yield page
    page.database.dispose()


@dataclass(frozen=True)
class Keyed:
    """The page with keys on, and the keys."""

    page: Page
    owner: str
    client: str


@pytest.fixture(scope="session")
def keyed_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """The page with an owner's and a client's key, and an OpenID Connect provider that is not running yet.

    For tests that only read, or make keys of their own.
    """
    provider = {
        "oidc_issuer": f"http://127.0.0.1:{free_ports(1)[0]}",
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": CLIENT_SECRET,
    }
    page = _page(tmp_path_factory.mktemp("keyed") / "home", **provider)
    owner = create_key(page.database, name="owner", role="owner")
    client = create_key(page.database, name="client", role="client")
    yield Keyed(page, owner, client)
    page.database.dispose()


@dataclass(frozen=True)
class RunningPage:
    """`parley page` as a process against the fake gateway, with an owner's key."""

    url: str
    owner: str
    settings: Settings


@pytest.fixture(scope="session")
def running_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    """The page with keys on, over HTTP, with the fake gateway's models."""
    home = tmp_path_factory.mktemp("running") / "home"
    port, page_port = free_ports(2)
    settings = load_settings(home=home, port=port, page_port=page_port)
    upgrade(settings)
    database = open_database(settings)
    register_models(database, settings.gateway_url)
    owner = create_key(database, name="owner", role="owner")
    settings = settings.model_copy(update={"page_key": SecretStr(create_key(database, name="page", role="client"))})
    for name in NAMES:
        add_model(database, OPEN, name)
    prompts = [
        {"prompt": f"Where is order {number}?", "category": "parcels" if number < 6 else "orders"}
        for number in range(24)
    ]
    add_prompts(database, prompts, "test")
    database.dispose()
    with running(settings, ["tests.ui.fake_gateway", str(port)], ["parley", "page"]):
        yield RunningPage(settings.page_url, owner, settings)


@contextmanager
def running(settings: Settings, *modules: list[str]) -> Iterator[None]:
    """Runs these Python modules as processes over the home of `settings`; waits until the page among them is up."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "OPENAI_"))}
    environment |= {
        "PARLEY_HOME": str(settings.home), "PARLEY_PORT": str(settings.port),
        "PARLEY_PAGE_PORT": str(settings.page_port), "PARLEY_DEVICE": settings.device,
    }  # fmt: skip
    if settings.page_tls_certificate:
        environment["PARLEY_PAGE_TLS_CERTIFICATE"] = str(settings.page_tls_certificate)
        environment["PARLEY_PAGE_TLS_KEY"] = str(settings.page_tls_key)
    if settings.page_key:
        environment["PARLEY_PAGE_KEY"] = settings.page_key.get_secret_value()
    started = [subprocess.Popen([sys.executable, "-m", *module], env=environment, cwd=ROOT) for module in modules]
    try:
        deadline = time.monotonic() + 240
        trust = ssl.create_default_context(cafile=settings.page_tls_certificate)
        trust.check_hostname = False  # a test's certificate has a public name
        while not _is_up(f"{settings.page_url}/health", trust):
            assert time.monotonic() < deadline, "the page did not come up"
            time.sleep(0.2)
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


def _is_up(url: str, trust: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=trust) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def browser_tab(chromium: Browser, settings: Settings, tab: str) -> Iterator[BrowserPage]:
    """A page of 1280 × 900 pixels with this tab of the owners' app open; no key is needed."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(settings.page_url)
        page.get_by_role("tab", name=tab).click()
        yield page
