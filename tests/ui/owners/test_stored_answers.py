"""Stored answers on the Data tab: what they become, masked and escaped; and a real browser from filter to campaign."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from models.completions.feedback import Feedback, add_feedback
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, open_database, utcnow
from models.files.stored_files import Files
from tests.ui.conftest import Keyed, Page, RunningPage, expect_no_sideways_scroll, open_signed_in, open_tab
from train.data.stored_rows import RowOptions
from train.data.stored_selection import SelectedAnswer
from ui.owners.data.stored_html import answer_html, answers_table

BAD = "<img src=x onerror=alert(1)>"


def completion(number: int, question: str, answer: str = "It is on its way.", finish: str = "stop") -> StoredCompletion:
    request: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": question}]}
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": finish}
    name = f"chatcmpl-{number}"
    whole = {"id": name, "object": "chat.completion", "choices": [choice]}
    created = utcnow() - timedelta(days=40 - number)
    return StoredCompletion(name, created, "support", "", f"req_{number}", request, whole, {"desk": f"{number % 2}"})


def fill(database: Database) -> None:
    """30 different questions, one of them twice, one with personal data, one truncated; feedback on three answers."""
    stored = [completion(number, f"Where is order {number}?") for number in range(30)]
    stored += [completion(30, "Where is order 1?"), completion(31, "Write to ada@shop.org"), completion(32, BAD, BAD)]
    stored += [completion(33, "Tell me all", "It is", "length")]
    StoredCompletions(database).add(stored)
    add_feedback(database, Feedback("chatcmpl-0", "rating", False, correction="On Friday.", comment=BAD))
    add_feedback(database, Feedback("chatcmpl-1", "rating", True))


@pytest.fixture(scope="module")
def filled_page(open_page: Page) -> Iterator[Page]:
    fill(open_page.database)
    yield open_page
    for number in range(34):
        StoredCompletions(open_page.database).delete(f"chatcmpl-{number}")


def sent(page: Page, path: str, /, **form: Any) -> tuple[int, dict[str, Any]]:
    """The status of the response, and its last line."""
    answer = page.browser().post(f"/data/stored/{path}", json=form)
    return answer.status_code, json.loads(answer.text.strip().rpartition("\n")[2])


@pytest.mark.long
def test_answers_are_counted_shown_by_the_page_and_one_in_full(filled_page: Page) -> None:
    known = filled_page.browser().get("/data/stored").json()
    assert (known["total"], known["models"], known["names"]) == (34, ["support"], ["rating"])
    _, shown = sent(filled_page, "show", mask=True)
    assert (shown["matches"], shown["rows"]) == (34, 32)
    assert "a duplicate row: 1" in shown["counts"]
    assert "a truncated answer: 1" in shown["counts"]
    assert shown["table"].count("stored-row") == 20
    _, second = sent(filled_page, "page", selection=shown["selection"], page=1)
    assert second["table"].count("stored-row") == 14
    assert "[EMAIL]" in second["table"]
    assert "<img" not in second["table"]
    assert "a duplicate row" in second["table"]
    _, full = sent(filled_page, "row", selection=shown["selection"], id="chatcmpl-0")
    assert "On Friday." in full["html"]
    assert "rating" in full["html"]
    assert "<img" not in full["html"]
    _, plain = sent(filled_page, "show", text="ADA@shop", mask=False)
    assert "ada@shop.org" in plain["table"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "rows"),
    [
        ({"where": "desk=1"}, 16),
        ({"text": "order 12"}, 1),
        ({"text": "user"}, 0),  # a role is no text of the conversation
        ({"feedback_name": "rating"}, 1),
        ({"corrected": True}, 1),
        ({"kind": "pairs"}, 1),
        ({"corrected": True, "feedback_from": "model"}, 0),
        ({"kind": "prompts"}, 33),
        ({"model": "other"}, 0),
        ({"until": "2020-01-01"}, 0),
    ],
)
def test_each_filter_chooses(filled_page: Page, form: dict[str, Any], rows: int) -> None:
    assert sent(filled_page, "show", **form)[1]["rows"] == rows


@pytest.mark.long
def test_rows_are_stored_once_and_can_be_downloaded(filled_page: Page) -> None:
    saved = [sent(filled_page, "save", mask=True, text="shop.org")[1]["saved"] for _ in range(2)]
    assert saved[0] == saved[1]
    assert "has 1 conversation." in saved[0]
    address = re.findall(r"href='([^']+)'", saved[0])[0]
    download = filled_page.browser().get(address)
    assert re.search(r'filename="answers-[\d-]+\.jsonl"', download.headers["content-disposition"])
    assert json.loads(download.text)["messages"][0]["content"] == "Write to [EMAIL]"
    assert len(Files(filled_page.settings, filled_page.database).list("fine-tune")) == 1
    assert "has 33 prompts" in sent(filled_page, "save", kind="prompts")[1]["saved"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("show", {"where": "desk"}, "Metadata 'desk' is not valid"),
        ("show", {"where": "desk=1,desk=2"}, "names desk twice"),
        ("show", {"since": "yesterday"}, "From is 'yesterday': use a day"),
        ("show", {"since": "2026-02-02", "until": "2026-02-01"}, "change the days"),
        ("show", {"feedback_least": "0.5"}, "Give the name of the feedback"),
        ("show", {"feedback_name": "rating", "feedback_least": "much"}, "use a number"),
        ("show", {"feedback_name": "rating", "feedback_least": "nan"}, "use a number"),
        ("show", {"key": "nobody"}, "There is no key"),
        ("show", {"kind": "poems"}, "reload it"),
        ("show", {"text": 3}, "at most 1,000 characters"),
        ("save", {"model": "nobody"}, "None of 0 stored completions can become a row"),
        ("page", {"selection": "x", "page": 1}, "show the answers again"),
        ("row", {"selection": ["x"], "id": "y"}, "show the answers again"),
    ],
)
def test_a_mistake_is_one_line(open_page: Page, path: str, form: dict[str, Any], message: str) -> None:
    _, answer = sent(open_page, path, **form)
    assert message in answer["error"]["message"]


@pytest.mark.long
def test_only_owners_may_see_stored_answers(keyed_page: Keyed) -> None:
    assert keyed_page.page.browser().get("/data/stored").status_code == 401
    assert keyed_page.page.browser().post("/data/stored/show", json={}).status_code == 401
    assert keyed_page.page.browser().get("/data/files?id=file-x").status_code == 401


def test_odd_answers_are_shown_too() -> None:
    odd = completion(1, "x")
    for request, answer in [
        ({}, {}),
        ({"messages": ["text"]}, {"choices": []}),
        ({"messages": [{}]}, {"choices": [{}]}),
    ]:
        stored = StoredCompletion(BAD, odd.created, BAD, "", "", request, answer, {BAD: BAD})
        selected = SelectedAnswer(stored, (), None, "no messages")
        assert "<img" not in answers_table([selected], RowOptions()) + answer_html(selected, RowOptions(mask=True))


@pytest.mark.browser
def test_from_a_filter_to_a_training_file_and_a_campaign(chromium: Browser, running_page: RunningPage) -> None:
    database = open_database(running_page.settings)
    fill(database)
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    open_signed_in(page, running_page, "Data")
    form, table = page.locator("#stored-form"), page.locator("#stored-table")
    expect(form).to_be_visible(timeout=30_000)
    form.locator("[name=text]").fill("where is")
    form.locator("[name=text]").press("Enter")
    expect(page.locator("#stored-counts")).to_contain_text("31stored answers match", timeout=30_000)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#stored-pages")).to_contain_text("Page 2 of 2")
    expect(table.locator("tbody tr")).to_have_count(11)
    page.get_by_role("button", name="Previous").click()
    expect(table.locator("tbody tr")).to_have_count(20)
    table.get_by_role("button", name="Where is order 0?").click()
    expect(page.locator("#stored-answer")).to_contain_text("On Friday.")
    page.get_by_role("button", name="Store as a file").dblclick()
    page.get_by_role("button", name="Train on this file").click()
    expect(page.locator("#train-data input")).to_have_value(re.compile("answers-"), timeout=30_000)
    open_tab(page, "Data")
    form.locator("[name=kind]").select_option("prompts")
    page.get_by_role("button", name="Store as a file").click()
    page.get_by_role("button", name="Create a campaign with them").click()
    expect(page.locator("#campaign-source input")).to_have_value(re.compile("prompts-"), timeout=30_000)
    assert len(Files(running_page.settings, database).list("evals")) == 1
    page.fill("#campaign-name input, #campaign-name textarea", "from-traffic")
    page.fill("#campaign-title input, #campaign-title textarea", "From traffic")
    open_tab(page, "Data")
    page.set_viewport_size({"width": 390, "height": 800})
    expect(form).to_be_visible()
    expect_no_sideways_scroll(page)
    for number in range(34):
        StoredCompletions(database).delete(f"chatcmpl-{number}")
    database.dispose()
    context.close()
