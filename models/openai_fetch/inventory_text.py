"""The inventory in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from models.openai_fetch.account import printable
from models.openai_fetch.inventory import GONE, FineTune, Inventory, UsedFile
from models.openai_fetch.kinds import STATES, TITLES
from models.openai_fetch.shutdown_dates import NO_NEW_JOBS

FETCHED = {"all": "all", "part": "in part", "none": "no"}
_FILE_STATES = {**STATES, "listed": "at OpenAI, not fetched", "unknown": "not in the list of files"}
_MOST_REASONS = 20


def describe_days(found: FineTune) -> str:
    """The days until a model's shutdown, with the day."""
    if found.days_left is None:
        return "no date known" if found.model else ""
    if found.days_left < 0:
        return f"off since {found.shutdown}"
    days = f"{found.days_left:,} day{'' if found.days_left == 1 else 's'}"
    return f"{'today' if found.days_left == 0 else days} ({found.shutdown})"


def describe_file(file: UsedFile | None) -> str:
    """A job's file: its state and name."""
    if file is None:
        return "none"
    return f"{_FILE_STATES.get(file.state, file.state)} ({file.name or file.id})"


def describe_status(found: FineTune) -> str:
    """A job's status, and whether OpenAI still lists its model."""
    return f"{found.status}, deleted at OpenAI" if found.listed is False else found.status


def headline(inventory: Inventory) -> str:
    """The most important sentence."""
    usable = [one for one in inventory.fine_tunes if one.model]
    dated = [one.days_left for one in usable if one.days_left is not None and one.days_left >= 0]
    text = (
        f"{_count(len(usable), 'fine-tune')}, {_count(len(inventory.fine_tunes) - len(usable), 'job')} without a model."
    )
    if dated:
        text += f" The next shutdown is in {_count(min(dated), 'day')}."
    return f"{text} OpenAI takes no new fine-tuning jobs from {NO_NEW_JOBS} on."


def text_lines(inventory: Inventory, most: int = 50) -> Iterator[str]:
    """The lines of the inventory; at most that many fine-tunes."""
    yield headline(inventory)
    for found in inventory.fine_tunes[:most]:
        created = f"{found.created:%Y-%m-%d}" if found.created else "unknown"
        checkpoints = "unknown" if found.checkpoints is None else f"{found.checkpoints:,}"
        yield ""
        yield printable(found.model or f"{found.job} (no model)")
        yield f"  shut down    {describe_days(found) or 'nothing to shut down'}"
        job = printable(f"{found.job or 'none'}: {describe_status(found)}, created {created}")
        yield f"  job          {job}"
        yield f"  training     {printable(describe_file(found.training))}"
        yield f"  validation   {printable(describe_file(found.validation))}"
        yield f"  checkpoints  {checkpoints}"
        yield f"  fetched      {FETCHED[found.fetched]}"
        if found.next_command:
            yield f"  next         {printable(found.next_command, 1000)}"
    if len(inventory.fine_tunes) > most:
        yield f"… and {len(inventory.fine_tunes) - most:,} more, in inventory.html and jobs/jobs.jsonl"
    yield ""
    yield from summary_lines(inventory)


@dataclass(frozen=True)
class KindRow:
    """What is fetched of a kind: the number of its objects in their list, the states of the copies, their size."""

    title: str
    listed: str
    copies: str
    size: str


def kind_rows(inventory: Inventory) -> Iterator[KindRow]:
    """A row for each kind that was requested."""
    for kind, title in TITLES.items():
        counts = inventory.counts.get(kind, Counter())
        if kind == "lists" or (not counts and kind not in inventory.lists):
            continue
        copies = [f"{counts[state]:,} {text}" for state, text in STATES.items() if counts[state]]
        if kind in inventory.lists and inventory.lists[kind] != "fetched":
            copies.append(f"the list: {STATES[inventory.lists[kind]]}")
        listed = f"{inventory.listed[kind]:,} listed" if kind in inventory.listed else ""
        size = f"{inventory.sizes[kind] / 1e6:,.1f} MB" if inventory.sizes[kind] else ""
        yield KindRow(title, listed, "; ".join(copies), size)


def summary_lines(inventory: Inventory) -> Iterator[str]:
    """What is fetched of each kind, and why the rest is not."""
    for row in kind_rows(inventory):
        yield f"{row.title}: {', '.join(filter(None, (row.listed, row.copies, row.size)))}"
    reasons = [one for one in inventory.unfetched if one["state"] not in GONE]
    for one in reasons[:_MOST_REASONS]:
        prefix = "" if one["state"] == "fetched" else "not fetched: "
        yield printable(f"{prefix}{one['path']}: {one.get('reason')}", 400)
    if len(reasons) > _MOST_REASONS:
        yield f"… and {len(reasons) - _MOST_REASONS:,} more, in manifest.jsonl"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
