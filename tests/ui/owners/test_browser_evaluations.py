"""A real Chromium uploads a task, runs it over two models with a judge, reads the report, and cancels another run."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from evals.tasks.evaluations import list_evaluations
from models.database import Database, open_database, upgrade
from models.jobs.jobs import list_jobs
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from tests.evals.upstream import AnsweringServer
from tests.stack import free_ports
from tests.ui.conftest import browser_tab, expect_no_sideways_scroll, running

pytestmark = pytest.mark.browser
RUN_MS = 60_000
SHOTS = os.environ.get("PARLEY_TEST_SHOTS")


@pytest.fixture
def evaluations_page(tmp_path: Path) -> Iterator[tuple[Settings, Database, AnsweringServer]]:
    """The page and a worker as processes; the gateway is the answering server, with two models and a judge."""
    with AnsweringServer(latency_s=0.05) as server:
        (page_port,) = free_ports(1)
        settings = load_settings(home=tmp_path / "home", port=server.port, page_port=page_port)
        upgrade(settings)
        database = open_database(settings)
        for name in ("before", "after", "our-judge"):
            upstream = Upstream(base_url=server.address, model=name)
            Registry(database).register(ModelSpec(id=name, kind="hosted", upstream=upstream, judge=name == "our-judge"))
        with running(settings, ["parley", "page"], ["parley", "worker"]):
            yield settings, database, server
        database.dispose()


@pytest.fixture
def page(evaluations_page: tuple[Settings, Database, AnsweringServer], chromium: Browser) -> Iterator[Page]:
    with browser_tab(chromium, evaluations_page[0], "Evaluations") as page:
        yield page


def upload(page: Page, folder: Path, name: str, rows: list[dict]) -> None:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.set_input_files("#evaluate-file", str(path))
    expect(page.locator("#evaluate-sent")).to_contain_text(f"Uploaded {name}", timeout=30_000)
    expect(page.locator("#evaluate-task input")).to_have_value(re.compile(re.escape(name)), timeout=30_000)


def pick(page: Page, box: str, entry: str) -> None:
    page.click(f"{box} input")
    page.locator(f"{box} [role=option]", has_text=entry).first.click()


def settled_requests(server: AnsweringServer) -> int:
    """The number of requests once none has come for three seconds; an answer takes one."""
    deadline = time.monotonic() + 60
    count, since = len(server.asked), time.monotonic()
    while time.monotonic() - since < 3:
        assert time.monotonic() < deadline, "the worker still sends requests"
        time.sleep(0.2)
        if len(server.asked) != count:
            count, since = len(server.asked), time.monotonic()
    return count


def test_a_task_is_uploaded_run_and_read_and_another_run_is_cancelled(
    evaluations_page: tuple[Settings, Database, AnsweringServer], page: Page, tmp_path: Path
) -> None:
    _, database, server = evaluations_page
    expect(page.locator("#evaluation-report")).to_contain_text("No evaluation yet")
    upload(page, tmp_path, "broken.jsonl", [{"input": "good"}, {"expected": "nothing is asked"}])
    page.click("#evaluate-start")
    expect(page.locator("#evaluate-line")).to_contain_text(
        re.compile("Line 2: it has no question", re.IGNORECASE), timeout=30_000
    )
    assert list_jobs(database, "evaluate") == []

    rows = [{"input": f"say {i}", "expected": f"after says: say {i}"} for i in range(24)]
    upload(page, tmp_path, "faq.jsonl", [*rows, {"turns": ["hello", "and then?"]}])
    expect(page.locator("#evaluate-models")).to_contain_text("before")
    expect(page.locator("#evaluate-models")).to_contain_text("after")
    pick(page, "#evaluate-judge", "our-judge")
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/evaluate-form-1280.png", full_page=True)
    page.click("#evaluate-start")
    report = page.frame_locator("#evaluation-report iframe")
    expect(report.locator("h1")).to_have_text("faq", timeout=RUN_MS)
    expect(report.locator("body")).to_contain_text("judge:our-judge@support")
    frame = """() => { const frame = document.querySelector("iframe.report");
      const text = frame.contentDocument.documentElement;
      return frame.clientHeight >= text.scrollHeight && text.dataset.shade === "light"; }"""
    page.wait_for_function(frame)  # the frame is as high as its text, in the page's shade
    expect(report.locator("body")).to_contain_text("turn 2")
    expect(page.locator("#evaluation input")).to_have_value(re.compile("^faq: "))
    expect(page.locator("#evaluate-stop")).to_be_hidden()
    (listed,) = list_evaluations(database)
    assert (listed.samples, set(listed.models)) == (26, {"before", "after"})
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/evaluate-report-1280.png", full_page=True)

    server.latency_s = 1.0
    upload(page, tmp_path, "long.jsonl", [{"input": f"take your time {i}"} for i in range(900)])
    page.click("#evaluate-start")
    expect(page.locator("#evaluate-line .progress")).to_be_visible(timeout=30_000)
    expect(page.locator("#evaluate-line")).to_contain_text(re.compile(r"answering: [1-9]\d* of 1800"), timeout=30_000)
    page.reload()  # a run outlives the page that started it
    page.get_by_role("tab", name="Evaluations").click()
    expect(page.locator("#evaluate-line")).to_contain_text("of 1800", timeout=30_000)
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/evaluate-running-1280.png", full_page=True)
    page.click("#evaluate-stop")
    expect(page.locator("#evaluate-line")).to_contain_text("This run was cancelled", timeout=30_000)
    assert list_jobs(database, "evaluate")[0].status == "cancelled"
    asked = len(server.asked)
    assert settled_requests(server) < asked + 1000  # the worker notices the cancel at its next heartbeat

    expect_no_sideways_scroll(page)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(report.locator("h1")).to_have_text("faq", timeout=30_000)
    expect_no_sideways_scroll(page)
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/evaluate-390.png", full_page=True)
