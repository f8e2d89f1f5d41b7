"""A real Chromium starts a real training in the Train tab, watches its curve grow, and cancels another one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from models.database import open_database, upgrade
from models.jobs.jobs import list_jobs
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from tests.stack import ROOT, free_ports
from tests.train.conftest import style_rows
from tests.ui.conftest import browser_tab, expect_no_sideways_scroll, running

pytestmark = [pytest.mark.browser, pytest.mark.training]
LONG_MS = 300_000  # a training on cores that others use too


@pytest.fixture
def training_page(tmp_path: Path) -> Iterator[Settings]:
    """The page and a worker as processes, over a home with the demo's base. No gateway and no engine."""
    port, page_port = free_ports(2)
    settings = load_settings(home=tmp_path / "home", port=port, page_port=page_port, device="cpu")
    upgrade(settings)
    database = open_database(settings)
    Registry(database).register(ModelSpec(id="demo-base", kind="base", path=str(ROOT / "models" / "demo" / "base")))
    database.dispose()
    with running(settings, ["parley", "page"], ["parley", "worker"]):
        yield settings


@pytest.fixture
def page(training_page: Settings, chromium: Browser) -> Iterator[Page]:
    with browser_tab(chromium, training_page, "Train") as page:
        yield page


def start(page: Page, name: str, epochs: str) -> None:
    page.fill("#train-name input, #train-name textarea", name)
    if not page.locator("#train-epochs").is_visible():
        page.locator("#train-how button").first.click()
    page.fill("#train-epochs input, #train-epochs textarea", epochs)
    page.keyboard.press("Tab")
    page.click("#train-start")


def test_a_training_runs_from_file_to_model_and_another_is_cancelled(
    training_page: Settings, page: Page, tmp_path: Path
) -> None:
    data = tmp_path / "tickets.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in style_rows(60)))
    page.set_input_files("#train-file", str(data))
    expect(page.locator("#train-sent")).to_contain_text("Uploaded tickets.jsonl", timeout=30_000)
    expect(page.locator("#train-data input")).to_have_value(re.compile("tickets.jsonl"), timeout=30_000)
    expect(page.locator("#train-base input")).to_have_value("demo-base", timeout=30_000)
    start(page, "styled-v1", "4")
    expect(page.locator("#train-rules")).to_contain_text("60 conversations")
    expect(page.locator("#train-plot .js-plotly-plot .scatterlayer .trace").first).to_be_visible(timeout=LONG_MS)
    expect(page.locator("#train-numbers")).to_contain_text("tokens per second")
    expect(page.locator("#train-made")).to_have_text("styled-v1", timeout=LONG_MS)
    expect(page.locator("#train-result a")).to_have_attribute("href", "/bot/styled-v1/")
    expect(page.locator("#train-result")).to_contain_text("float32 base + adapter")
    expect(page.locator("#train-runs input")).to_have_value(re.compile("styled-v1 from demo-base · done"))
    database = open_database(training_page)
    assert Registry(database).resolve("styled-v1").state == "listed"

    start(page, "never", "1000")
    expect(page.locator("#train-stop")).to_be_visible(timeout=30_000)
    expect(page.locator("#train-numbers")).to_contain_text("remaining", timeout=LONG_MS)
    steps = page.locator("#train-numbers").inner_text()
    page.evaluate("window.picture = document.querySelector('#train-plot .js-plotly-plot')")
    expect(page.locator("#train-numbers")).not_to_have_text(steps, timeout=LONG_MS)
    # The lines have moved in the very picture that was there: it does not flicker.
    assert page.evaluate("window.picture === document.querySelector('#train-plot .js-plotly-plot')")
    page.click("#train-stop")
    assert list_jobs(database, "train")[0].status == "running"
    page.click("#train-yes")
    expect(page.locator("#train-state")).to_contain_text("This run was cancelled", timeout=30_000)
    assert list_jobs(database, "train")[0].status == "cancelled"
    database.dispose()
    expect_no_sideways_scroll(page)
