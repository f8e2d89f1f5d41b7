"""`parley demo-content` as a process of its own, because it needs torch, and what it reports while it trains."""

import time
from collections.abc import Callable, Sequence

from models.errors import ParleyError
from models.settings.environment import child_environment
from models.settings.settings import Settings
from serve.processes.children import own_command, spawn

_PROGRESS = "demo: "  # begins a line of progress in the process's log, where libraries write too


def run_demo_content(settings: Settings, report: Callable[[str], None], arguments: Sequence[str]) -> None:
    """Runs it under a guardian, like everything that `up` starts, so that nothing outlives it.

    Raises:
        ParleyError: it failed, with its last line.
    """
    command = own_command("demo-content", "demo-content", *arguments, environment=child_environment(settings))
    process = spawn(command, settings.logs_dir)
    with process.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(process.log_start)
        unread = ""
        try:
            while (code := process.exit_code()) is None:
                unread = report_progress(unread + log.read(), report)
                time.sleep(0.1)
            report_progress(unread + log.read(), report)
        finally:
            process.stop()
    if code:
        last = process.last_words() or "no reason given"
        raise ParleyError(f"The demo's content could not be installed: {last.removeprefix('parley: ')}")


def print_progress(line: str) -> None:
    """Reports a line to the process that waits."""
    print(f"{_PROGRESS}{line}", flush=True)


def report_progress(text: str, report: Callable[[str], None]) -> str:
    """Reports the complete lines of progress in a log's text; returns what is left of the last line."""
    *lines, rest = text.split("\n")
    for line in lines:
        if line.startswith(_PROGRESS):
            report(line.removeprefix(_PROGRESS))
    return rest
