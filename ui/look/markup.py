"""Pieces of HTML that several pages share: notices, tables, figures, progress bars. Plain Python, no Gradio.

A parameter named `html` or `rows` holds HTML that the caller has escaped; every other text is escaped here.
"""

from collections.abc import Iterable
from html import escape

from models.jobs.jobs import Job

STATUS_LABELS = {
    "queued": "waiting for the worker",
    "running": "running",
    "paused": "paused",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


def code_spans(text: str) -> str:
    """Escaped text in which parts between backticks are set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def notice(text: str, tone: str = "warn") -> str:
    """A one-line message; `tone` is wait, warn, bad or good. Text between backticks is set as code."""
    return f'<div class="notice {tone}" role="status"><i></i><span>{code_spans(text)}</span></div>'


def empty_state(title: str, html: str) -> str:
    """What a list shows while it is empty: a title and a hint."""
    return f"<div class='quiet'><b>{escape(title)}</b><span>{html}</span></div>"


def heading(text: str) -> str:
    """The heading of a part of a tab."""
    return f"<h3 class='plot-title'>{escape(text)}</h3>"


def badge(text: str, tone: str = "") -> str:
    """A short label in a pill; `tone` is empty (good), warn, bad or still."""
    return f"<span class='{f'badge {tone}'.strip()}'>{escape(text)}</span>"


def table(head: str, rows: str, *, classes: str = "", tall: bool = False) -> str:
    """A table that scrolls sideways; a tall one scrolls down too. `head` is the header's cells, or empty."""
    header = f"<thead><tr>{head}</tr></thead>" if head else ""
    return (
        f"<div class='scroll{' tall' if tall else ''}'><table class='{f'board {classes}'.strip()}'>"
        f"{header}<tbody>{rows}</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Numbers side by side, each with what it means."""
    cells = "".join(
        f"<div class='fact'><b>{escape(value)}</b><span>{escape(meaning)}</span></div>" for value, meaning in pairs
    )
    return f"<div class='facts'>{cells}</div>"


def job_status(job: Job, cancelled: str = "This run was cancelled.") -> str:
    """A job's progress bar, or why it ended; empty once it has succeeded."""
    if job.status == "succeeded":
        return ""
    if job.status == "failed":
        return notice(f"This run failed: {job.error or job.message or 'the worker left no reason.'}", "bad")
    if job.status == "cancelled":
        return notice(cancelled, "warn")
    running = job.status == "running"
    percent = 100 * job.progress if running else 0.0
    message = job.message or STATUS_LABELS.get(job.status, job.status)
    if running and message == STATUS_LABELS["queued"]:
        message = "starting"  # the worker has taken the job, but not reported progress yet
    return (
        f"<div class='job'><b>{percent:.0f} %</b><div class='progress' role='progressbar' aria-valuemin='0' "
        f"aria-valuemax='100' aria-valuenow='{percent:.0f}' aria-label='Progress'>"
        f"<i style='width:{percent:.1f}%'></i></div>"
        f"<p>{escape(message)}</p></div>"
    )
