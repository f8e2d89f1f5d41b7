"""Counts what an account holds, without writing anything."""

from __future__ import annotations

from collections.abc import Iterator

from models.openai_fetch.account import Refusal
from models.openai_fetch.client import Client
from models.openai_fetch.kinds import LISTS, TITLES
from models.openai_fetch.progress import Progress


def dry_run_lines(client: Client, kinds: tuple[str, ...], progress: Progress) -> Iterator[str]:
    """A line for each kind: how many objects a fetch would copy. Raises Stop as a fetch does."""
    for kind in (kind for kind in LISTS if kind in kinds):
        number, size, reason = 0, 0, ""
        progress.begin(f"list of {TITLES[kind]}")
        try:
            for item in client.items(LISTS[kind]):
                number += 1
                size += item["bytes"] if isinstance(item.get("bytes"), int) else 0
                progress.add()
        except Refusal as refusal:
            reason = f"; the list cannot be read: {refusal}"
        yield f"{TITLES[kind]}: {number:,}" + (f", {size / 1e6:,.1f} MB" if size else "") + reason
    yield "Nothing was written: this was a dry run."
