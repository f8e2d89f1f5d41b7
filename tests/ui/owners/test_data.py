"""The Data tab: only owners may check files, everything from the data is escaped, and a real browser drops a file."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.ui.conftest import Keyed, Page, RunningPage, expect_no_sideways_scroll
from train.data.checks import check
from ui.owners.data.html import report_html, tokens_html

FAULTS = Path(__file__).resolve().parents[2] / "train" / "data" / "faults"


@pytest.mark.long
def test_a_file_returns_its_report_also_as_html(open_page: Page):
    path = FAULTS / "wrong-type.jsonl"
    answer = open_page.browser().post("/data/check", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 200
    report = answer.json()["report"]
    assert report.pop("tokens")["examples"] == report["examples"]
    assert report == check(path).to_json()
    assert "has errors" in answer.json()["html"] or "not usable for training" in answer.json()["html"]
    assert open_page.browser().get("/data/check").status_code == 405
    image = open_page.browser().post("/data/check", files={"file": ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(500))})
    line = (
        "photo.png is not training data: it is a PNG image. Training data is .jsonl, .ndjson, .json, .csv, .tsv, .txt, "
        ".xlsx or .parquet."
    )
    assert (image.status_code, image.json()["error"]["message"]) == (400, line)
    latin = open_page.browser().post(
        "/data/check", files={"file": ("a.csv", "prénom;réponse\nx;y\n".encode("latin-1"))}
    )
    assert (latin.status_code, "a.csv has no column" in latin.json()["error"]["message"]) == (400, True)
    nothing = open_page.browser().post("/data/check", json={})
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "file")


@pytest.mark.long
def test_only_owners_may_check(keyed_page: Keyed):
    sent: dict[str, Any] = {"files": {"file": ("a.jsonl", b"{}")}}
    assert keyed_page.page.browser().post("/data/check", **sent).status_code == 401
    assert keyed_page.page.browser().post("/vote/data/check", **sent).status_code == 404


def test_the_report_says_how_tokens_were_counted() -> None:
    counts = {
        "model": "x", "way": "tiktoken", "how": "tiktoken's o200k_base", "estimate": False, "tokens": 1_200,
        "learnt_tokens": 300, "per_example": {"smallest": 9, "largest": 40},
    }  # fmt: skip
    shown = tokens_html(counts)
    assert "<b>1,200 tokens</b> by tiktoken, 300 of them in answers" in shown
    assert "Tiktoken&#x27;s o200k_base." in shown
    guessed = tokens_html(counts | {"way": "estimate", "estimate": True, "how": "<b>"})
    assert "<b>about 1,200 tokens</b> (an estimate)" in guessed
    assert "&lt;b&gt;." in guessed
    assert tokens_html(None) == ""


def test_everything_from_the_data_is_escaped():
    bad = "<img src=x onerror=alert(1)>"
    rows: list[Any] = [{"messages": [{"role": bad, "content": "x"}]}, {"messages": [{"role": "user", bad: 1}]}]
    shown = report_html(check(rows).to_json() | {"source": f"{bad}.jsonl", "format": bad})
    assert "<img" not in shown
    assert "&lt;img" in shown


@pytest.mark.browser
def test_a_dropped_file_is_shown_sorted_and_saved(chromium: Browser, running_page: RunningPage, tmp_path: Path):
    rows = [json.loads(line) for line in (FAULTS / "leakage.train.jsonl").read_text().splitlines()]
    rows += [{"messages": [{"role": "oracle", "content": "x"}]}, rows[4]]
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{running_page.url}/login")
    page.fill("#key", running_page.owner)
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Data").click()
    page.set_input_files("#data-file", path)
    report = page.locator("#data-report")
    expect(report).to_contain_text("tickets.jsonl", timeout=30_000)
    expect(report).to_contain_text("has errors")
    lines = report.locator("tbody tr td:nth-child(2)")
    expect(lines).to_have_text(["52", "53"])
    for _ in range(2):
        report.get_by_role("button", name="Line").click()
    expect(lines).to_have_text(["53", "52"])
    with page.expect_download() as saved:
        report.get_by_role("button", name="Download the report").click()
    assert saved.value.suggested_filename == "tickets.report.json"
    assert json.loads(Path(saved.value.path()).read_text())["codes"] == {"unknown-role": 1, "duplicate": 1}
    report.get_by_role("button", name="Train on this file").click()
    expect(page.locator("#train-data input")).to_have_value(re.compile("tickets.jsonl"), timeout=30_000)
    page.get_by_role("tab", name="Data").click()
    page.set_viewport_size({"width": 390, "height": 800})
    expect(report).to_be_visible()
    expect_no_sideways_scroll(page)
    page.set_input_files("#data-file", FAULTS / "invalid-csv.csv")
    expect(report).to_contain_text(re.compile("invalid-csv"), timeout=30_000)
    context.close()
