"""The inventory: dates, urgency, the next step, and a page that hostile names cannot break."""

import re
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path

from models.openai_fetch.fetch import INVENTORY
from models.openai_fetch.inventory import FineTune, read_inventory
from models.openai_fetch.inventory_html import inventory_page
from models.openai_fetch.inventory_text import describe_days, text_lines
from models.openai_fetch.shutdown_dates import NO_NEW_JOBS, SHUTDOWNS, find_shutdown
from models.registry.shutdowns import _table, find_shutdown_date, fine_tuning_cutoff
from tests.fakes.openai_account import FakeAccount
from tests.models.openai_fetch.accounts import TRAINING, fetched, fill

FETCH = "parley rescue --all"
DAY = date(2026, 12, 1)


def test_the_dates_are_those_of_the_registry() -> None:
    rows = [row for row in _table()["retirement"] if row["provider"] == "openai"]
    assert {family: row["day"] for row in rows for family in row["families"]} == SHUTDOWNS
    assert fine_tuning_cutoff("openai") == NO_NEW_JOBS
    names = [*SHUTDOWNS, "gpt-4o-mini-2024-07-18", "gpt-4o-audio-preview", "gpt-4.1-nano", "gpt-5", ""]
    assert [find_shutdown(name) for name in names] == [find_shutdown_date(name) for name in names]
    assert find_shutdown("gpt-5", "2026-12-05T00:00:00Z") == date(2026, 12, 5)
    assert find_shutdown("gpt-4o", "soon") == SHUTDOWNS["gpt-4o"]


def test_the_most_urgent_comes_first_with_its_next_step(empty: FakeAccount, tmp_path: Path) -> None:
    later = fill(empty)
    soon = empty.finished_job(empty.add_file("soon.jsonl", TRAINING), suffix="soon", base="gpt-4.1-mini-2025-04-14")
    empty.announce[soon] = "2026-12-05"
    deleted = empty.finished_job(empty.add_file("deleted.jsonl", TRAINING), suffix="deleted")
    empty._moved = lambda job: None  # type: ignore[method-assign]  # a finished job does not bring its model back
    del empty.models[deleted]
    empty.models["ft:gpt-4o-2024-08-06:acme::Other"] = empty._model("ft:gpt-4o-2024-08-06:acme::Other", "acme")
    fetched(empty, tmp_path / "a", INVENTORY)
    before = read_inventory(tmp_path / "a", FETCH, DAY)
    assert [one.fetched for one in before.fine_tunes if one.job] == ["part"] * 4
    assert {one.next_command for one in before.fine_tunes if one.job} == {FETCH}

    fetched(empty, tmp_path / "a")
    found = {one.model: one for one in read_inventory(tmp_path / "a", FETCH, DAY).fine_tunes}
    assert next(iter(found)) == soon
    assert (found[soon].days_left, found[later].days_left) == (4, 44)
    assert {one.fetched for one in found.values() if one.job} == {"all"}
    assert found[soon].next_command == f"parley rescue {soon} --base BASE"
    assert (found[deleted].listed, found[later].listed) == (False, True)
    (old,) = [one for one in found.values() if ":old:" in one.model]
    assert (old.training.state if old.training else None, old.checkpoints) == ("missing", 3)
    assert old.next_command.endswith("--base BASE --data FILE")
    assert found["ft:gpt-4o-2024-08-06:acme::Other"].status == "without a job in this account"
    lines = list(text_lines(read_inventory(tmp_path / "a", FETCH, DAY)))
    assert lines[0].startswith("5 fine-tunes, 0 jobs without a model. The next shutdown is in 4 days.")
    assert "  shut down    4 days (2026-12-05)" in lines
    assert "files: 7 listed, 9 fetched; 2 not at OpenAI any more, 0.0 MB" in lines or "2 not at OpenAI" in "".join(
        lines
    )

    after = {one.model: one for one in read_inventory(tmp_path / "a", FETCH, date(2027, 1, 20)).fine_tunes}
    assert (after[later].days_left, describe_days(after[later])) == (-6, "off since 2027-01-14")
    data = re.search(r"--data (\S+)", after[later].next_command)
    assert data is not None
    assert Path(data[1]).read_bytes() == TRAINING


def test_days_are_words() -> None:
    def words(days: int) -> str:
        return describe_days(FineTune("ft:x", "x", "succeeded", shutdown=DAY + timedelta(days=days), days_left=days))

    assert [words(days) for days in (-1, 0, 1, 2)] == [
        "off since 2026-11-30", "today (2026-12-01)", "1 day (2026-12-02)", "2 days (2026-12-03)",
    ]  # fmt: skip
    assert describe_days(FineTune("ft:x", "x", "succeeded")) == "no date known"


def test_hostile_names_are_text_in_the_page_and_in_the_terminal(empty: FakeAccount, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202e.jsonl"
    empty.finished_job(empty.add_file(hostile, TRAINING), suffix="<b onmouseover=x>")
    empty.fail("GET", "/v1/batches", 400, {"error": {"message": hostile}}, times=9)
    fetched(empty, tmp_path / "a")
    inventory = read_inventory(tmp_path / "a", FETCH, DAY)
    page = inventory_page(inventory)
    tags = Tags()
    tags.feed(page)
    assert tags.names.isdisjoint({"script", "img", "a", "link", "iframe"})
    assert tags.attributes <= {
        "class", "data-head", "lang", "charset", "name", "content", "http-equiv",
    }  # fmt: skip
    assert "default-src 'none'" in page
    assert not re.search(r"[\x1b\u202e]", page + "\n".join(text_lines(inventory)))
    assert "&lt;script&gt;alert(1)" in page


def test_an_account_without_anything_has_a_page(empty: FakeAccount, tmp_path: Path) -> None:
    fetched(empty, tmp_path / "a")
    page = inventory_page(read_inventory(tmp_path / "a", FETCH, DAY))
    assert "There are none, or their list is not fetched." in page
    assert "0 listed" in page


class Tags(HTMLParser):
    """The names of all elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects."""
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
