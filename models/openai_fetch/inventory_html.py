"""The inventory as one HTML page that loads nothing and runs nothing, to show around."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from models.html_page import cards, more, page
from models.openai_fetch.account import Record, printable
from models.openai_fetch.inventory import GONE, FineTune, Inventory, UsedFile
from models.openai_fetch.inventory_text import (
    FETCHED,
    describe_days,
    describe_file,
    describe_status,
    headline,
    kind_rows,
)
from models.openai_fetch.kinds import STATES, TITLES

URGENT_DAYS = 14
_MOST_ROWS = 1000
_FINE_TUNE = ("model, next step", "shut down", "job", "training", "validation", "checkpoints", "fetched")


def inventory_page(inventory: Inventory) -> str:
    """The page."""
    title = "What the OpenAI account holds"
    checked = f"As of {inventory.checked:%Y-%m-%d %H:%M} UTC." if inventory.checked else "Nothing is fetched yet."
    body = f"<h1>{title}</h1><p>{escape(headline(inventory))}</p><p class=soft>{checked}</p>"
    body += f"<h2>Fine-tunes, the most urgent first</h2>{_fine_tunes(inventory.fine_tunes)}"
    body += f"<h2>The whole account</h2>{_kinds(inventory)}"
    if inventory.unfetched:
        rows = ((one["id"], TITLES.get(one["kind"], one["kind"]), _reason(one)) for one in inventory.unfetched)
        body += _details("Not fetched, or not again", ("id", "kind", "reason"), rows, len(inventory.unfetched))
    if inventory.files:
        body += _details(
            "Files", ("file", "name", "purpose", "bytes"), map(_file, inventory.files), len(inventory.files)
        )
    return page(title, body)


def _fine_tunes(fine_tunes: Sequence[FineTune]) -> str:
    if not fine_tunes:
        return "<p>There are none, or their list is not fetched.</p>"
    rest = len(fine_tunes) - _MOST_ROWS
    note = f"<p class=soft>… and {rest:,} more, in jobs/jobs.jsonl.</p>" if rest > 0 else ""
    return cards(_FINE_TUNE, map(_fine_tune, fine_tunes[:_MOST_ROWS])) + note


def _fine_tune(found: FineTune) -> list[str]:
    urgent = found.days_left is not None and found.days_left <= URGENT_DAYS
    days = _text(describe_days(found))
    done = {"all": "good", "none": "bad"}.get(found.fetched, "")
    model = (
        f"<b>{_text(found.model)}</b>" if found.model else f"<span class=soft>no model of {_text(found.base)}</span>"
    )
    command = f"<br><code>{_text(found.next_command, 600)}</code>" if found.next_command else ""
    created = f"created {found.created:%Y-%m-%d}, " if found.created else ""
    return [
        model + command,
        f"<b class=bad>{days}</b>" if urgent else days,
        f"{_text(found.job or '')}<br><span class=soft>{created}{_text(describe_status(found))}</span>",
        _used(found.training),
        _used(found.validation),
        "unknown" if found.checkpoints is None else f"{found.checkpoints:,}",
        f"<span class='{done}'>{FETCHED[found.fetched]}</span>" if found.job else "",
    ]


def _used(file: UsedFile | None) -> str:
    text = _text(describe_file(file))
    return f"<span class=bad>{text}</span>" if file and file.state in (*GONE, "forbidden", "failed") else text


def _kinds(inventory: Inventory) -> str:
    rows = [(row.title, row.listed, row.copies, row.size) for row in kind_rows(inventory)]
    return cards(("kind", "list", "copies", "size"), rows) if rows else "<p>Nothing is fetched yet.</p>"


def _file(file: Record) -> tuple[str, str, str, str]:
    size = file.get("bytes")
    return (
        str(file["id"]), str(file.get("filename") or ""), str(file.get("purpose") or ""),
        f"{size:,}" if isinstance(size, int) else "",
    )  # fmt: skip


def _reason(record: Record) -> str:
    return f"{STATES.get(record['state'], record['state'])}: {record.get('reason', '')}"


def _details(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], number: int) -> str:
    shown = [[_text(cell) for cell in row] for row, _ in zip(rows, range(_MOST_ROWS))]  # noqa: B905 -- Python 3.9
    rest = f"<p class=soft>… and {number - len(shown):,} more, in manifest.jsonl.</p>" if number > len(shown) else ""
    return more(f"{title} ({number:,})", cards(head, shown) + rest)


def _text(text: str, longest: int = 200) -> str:
    return escape(printable(text, longest))
