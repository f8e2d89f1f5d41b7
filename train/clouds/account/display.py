"""The inventory and the next commands in a terminal, and as JSON."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from models.openai_fetch.account import printable
from models.openai_fetch.inventory import Inventory
from models.openai_fetch.inventory_html import URGENT_DAYS
from models.openai_fetch.inventory_text import FETCHED, describe_days, describe_file, describe_status

_MOST_ROWS = 50
_FETCHED_STYLES = {"all": "green", "part": "yellow", "none": "red"}


def fine_tune_table(inventory: Inventory) -> Table:
    """The most urgent fine-tunes."""
    table = Table(box=None, header_style="bold")
    for column in ("fine-tune", "shut down", "created", "job", "training file", "checkpoints", "fetched"):
        table.add_column(column, overflow="fold")
    for found in inventory.fine_tunes[:_MOST_ROWS]:
        urgent = found.days_left is not None and found.days_left <= URGENT_DAYS
        days = escape(describe_days(found))
        table.add_row(
            _cell(found.model or "no model"),
            f"[red]{days}[/]" if urgent else days,
            f"{found.created:%Y-%m-%d}" if found.created else "",
            _cell(f"{found.job or ''} {describe_status(found)}"),
            _cell(describe_file(found.training)),
            "unknown" if found.checkpoints is None else f"{found.checkpoints:,}",
            f"[{_FETCHED_STYLES[found.fetched]}]{FETCHED[found.fetched]}[/]" if found.job else "",
        )
    return table


def next_commands(inventory: Inventory, folder: Path) -> Iterator[str]:
    """The commands that go on from here, the most urgent first; none of them is run."""
    if inventory.counts.get("output_items"):
        yield f"parley import openai-evals {shlex.quote(str(folder / 'evals'))}"
    commands = dict.fromkeys(found.next_command for found in inventory.fine_tunes if found.next_command)
    yield from (printable(command, 1000) for command in commands)


def more_rows(inventory: Inventory) -> str:
    """A line for the fine-tunes that the table leaves out; empty if there are none."""
    left = len(inventory.fine_tunes) - _MOST_ROWS
    return f"… and {left:,} more: --html FILE or --json lists them." if left > 0 else ""


def inventory_json(inventory: Inventory) -> dict[str, Any]:
    """The inventory as JSON."""
    return {
        "checked": inventory.checked,
        "fine_tunes": [asdict(found) for found in inventory.fine_tunes],
        "kinds": {kind: dict(states) for kind, states in inventory.counts.items()},
        "bytes": dict(inventory.sizes),
        "listed": inventory.listed,
        "not_fetched": inventory.unfetched,
    }


def _cell(text: str) -> str:
    return escape(printable(text))
