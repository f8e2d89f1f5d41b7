"""The HTML report: one file that loads nothing, everything foreign escaped, all numbers and answers in it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evals.reports.evaluation_html import interval, number, report_html, write_report
from evals.scorers.score_summary import ScoreSummary
from evals.tasks.evaluations import Evaluation, Result, ScorerInfo
from evals.tasks.summaries import against_first, diff, overview
from evals.tasks.task_rows import make_task
from models.database import utcnow
from models.errors import Invalid

EVIL = '<script>alert("x")</script><img src=http://127.0.0.1/x onerror=alert(1)> & \u2028 "quoted"'
TASK = make_task(
    EVIL, "faq.jsonl",
    [("", {"input": f"{EVIL} {i}", "expected": EVIL, "category": EVIL if i % 2 else "plain"}) for i in range(48)],
)  # fmt: skip


def evaluation() -> Evaluation:
    facts = (ScorerInfo("exact", "higher", 0.0, 1.0), ScorerInfo(EVIL, "lower", 0.0, None))
    before = tuple(Result(EVIL, None, {"exact": 1.0, EVIL: 3.0}, {}) for _ in range(48))
    after = (
        Result(None, f"refused: {EVIL}", {}, {}),
        *(Result(EVIL + str(i), None, {"exact": float(i % 4 == 0), EVIL: None}, {EVIL: "no idea"}) for i in range(47)),
    )
    return Evaluation(
        id="01TEST", task=EVIL, task_hash=TASK.hash, source="faq.jsonl", left_out=2, models=("a", EVIL),
        parameters={"temperature": 0.0}, scorers=facts, samples=TASK.samples, results={"a": before, EVIL: after},
        notes=(EVIL,), created=utcnow(), finished=utcnow(),
    )  # fmt: skip


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "line", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_file_without_scripts_or_resources(tmp_path: Path) -> None:
    stored = evaluation()
    path = tmp_path / "deep" / "report.html"
    write_report(path, stored, overview(stored), diff(against_first(stored)))
    text = path.read_text("utf-8")
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []  # every tag is closed, so nothing foreign opened one
    assert not tags.tags & {"script", "img", "link", "iframe", "object", "form", "a", "base"}
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("src", "href")}
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import", text)


def test_the_report_has_numbers_answers_and_failures() -> None:
    stored = evaluation()
    text = report_html(stored, overview(stored), diff(against_first(stored)))
    for expected in (
        "2 rows left out", "comparisons were made", "Regressions", "What failed", "refused: ", "no idea", "<svg",
        "1.00 → 0.00", TASK.hash[:16], "lower is better", "cut at max_tokens",
    ):  # fmt: skip
        assert expected in text
    assert text.count("<details>") == 35 + 2  # 35 lower scores, two scorers by category
    alone = report_html(stored, overview(stored))
    assert "Regressions" not in alone


def test_numbers_are_short_and_a_missing_one_is_a_dash() -> None:
    cost, share = ScorerInfo("cost", "lower", 0.0, None), ScorerInfo("exact", "higher", 0.0, 1.0)
    assert (number(0.000123456, cost), number(0.5, share), number(None)) == ("0.000123", "0.50", "–")
    assert interval(ScoreSummary(0.5, 0.25, 0.75, 9, 0), share) == "0.50 (0.25 to 0.75)"
    assert interval(ScoreSummary(0.5, None, None, 1, 0), share) == "0.50"


def test_an_unwritable_file_is_a_one_line_error() -> None:
    stored = evaluation()
    with pytest.raises(Invalid, match="cannot be written"):
        write_report(Path("/dev/null/report.html"), stored, overview(stored), None)
