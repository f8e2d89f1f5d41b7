"""Shared HTML: text is escaped, code stands in backticks, a job shows its progress or why it ended."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from models.jobs.jobs import Job
from ui.look.markup import badge, facts, job_status, notice, table

JOB = Job("1", "judge", {}, "running", 0.25, "<step> 1 of 4", None, None, datetime(2026, 12, 1, tzinfo=UTC), None, None)


def test_text_is_escaped_and_code_is_set_as_code():
    assert "<code>x&lt;y</code>" in notice("<b> `x<y`")
    assert "<b>" not in notice("<b> `x<y`")
    assert "<i>" not in facts([("<i>", "<i>")]) + badge("<i>")


def test_classes_have_no_stray_spaces():
    assert badge("ready") == "<span class='badge'>ready</span>"
    assert badge("failed", "bad") == "<span class='badge bad'>failed</span>"
    assert "<table class='board'>" in table("", "")
    assert "class='scroll tall'" in table("<th>x</th>", "", tall=True)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "25 %"),
        ({}, "&lt;step&gt; 1 of 4"),
        ({"status": "queued", "message": ""}, "waiting for the worker"),
        ({"status": "queued", "message": ""}, "width:0.0%"),  # an empty bar
        ({"progress": 0.0, "message": "waiting for the worker"}, "<p>starting</p>"),  # a worker has it
        ({"progress": 0.001}, "width:0.1%"),
        ({"status": "failed", "error": "no <disk>"}, "This run failed: no &lt;disk&gt;"),
        ({"status": "cancelled"}, "Stopped."),
    ],
)
def test_a_job_shows_its_progress_or_why_it_ended(changes: dict[str, Any], shown: str):
    assert shown in job_status(replace(JOB, **changes), cancelled="Stopped.")
    assert job_status(replace(JOB, status="succeeded")) == ""
