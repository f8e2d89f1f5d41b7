"""What a person sees of a cloud run: the offer with its price, the events as they come, the lists. Words only."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from models.terminal import console
from train.clouds.cloud import CloudEvent, CloudJob
from train.clouds.run_records import CloudRun
from train.clouds.submission import Offer, dollars

STATES = {"succeeded": "green", "failed": "red", "cancelled": "dim", "running": "yellow"}
LEVELS = {"near": "yellow", "urgent": "red"}
_SHOWN_PROBLEMS = 8


def show_offer(offer: Offer) -> None:
    """The table that somebody agrees to."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    errors = [problem for problem in offer.problems if problem.severity == "error"]
    for problem in errors[:_SHOWN_PROBLEMS]:
        out.print(f"[red]line {problem.line}[/]: {escape(problem.message)} (left out; {escape(problem.mend)})")
    if len(errors) > _SHOWN_PROBLEMS:
        out.print(f"… and {len(errors) - _SHOWN_PROBLEMS:,} more: `parley data check` has them all.")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("train", f"[bold]{escape(offer.base)}[/] at {offer.cloud}, as {escape(offer.name)}")
    table.add_row("data", f"{offer.examples:,} examples, {offer.held_out:,} held out, {offer.left_out:,} left out")
    for choice in offer.choices:
        table.add_row(choice.name, f"{choice.value}  [dim]{escape(choice.reason)}[/]")
    quote = offer.quote
    if quote:
        about, how = "about " if quote.estimated else "", quote.counted.split(": ")[0]
        table.add_row("tokens", f"{about}{quote.billed_tokens:,} billed  [dim]{escape(how)}[/]")
        price = f"[bold]{about}{dollars(quote.usd)}[/] at ${quote.rate:g} a million tokens"
        table.add_row("price", f"{price}  [dim]as of {quote.as_of}[/]")
        if quote.notes:
            table.add_row("", f"[dim]{escape(quote.notes)}[/]")
    else:
        table.add_row("price", "[yellow]not known[/]")
    out.print(table)
    for warning in offer.warnings:
        out.print(f"[yellow]Note[/] {escape(warning)}.")


class Follower:
    """Events on a terminal: a line each, and a bar for the steps. Elsewhere plain lines. Silent where asked."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._out = console()
        self._bar: Any = None
        self._task: Any = None
        if not silent and sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None))
            figures = (MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, *figures, console=self._out, transient=True)

    def __enter__(self) -> "Follower":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        """One line of our own."""
        if not self._silent:
            self._out.print(line, markup=False)

    def __call__(self, event: CloudEvent) -> None:
        if self._silent:
            return
        if event.step is not None and event.loss is not None and self._bar:
            self._step(event)
            return
        colour = {"error": "red", "warning": "yellow"}.get(event.level, "")
        self._out.print(f"{event.created:%H:%M:%S}  {event.message}", style=colour, markup=False)

    def _step(self, event: CloudEvent) -> None:
        figures = f"loss {event.loss:.3f}"
        if event.validation_loss is not None:
            figures += f" · validation {event.validation_loss:.3f}"
        if self._task is None:
            self._task = self._bar.add_task("training", total=event.steps, figures=figures)
        self._bar.update(self._task, completed=event.step, total=event.steps, figures=figures)


def working(line: str, *, silent: bool) -> AbstractContextManager[Any]:
    """A spinner for a wait, on a terminal."""
    return nullcontext() if silent or not sys.stdout.isatty() else console().status(line)


def jobs_table(jobs: Sequence[CloudJob], runs: Sequence[CloudRun], registered: dict[str, str]) -> Any:
    """The account's jobs, with the names that they have here."""
    from rich.markup import escape
    from rich.table import Table

    names = {run.job: run.name for run in runs if run.job}
    table = Table(box=None, header_style="bold")
    for column in ("job", "made", "from", "state", "model", "here"):
        # Folded, not cut: an id is there to be copied.
        table.add_column(column, overflow="fold", no_wrap=column == "made")
    for job in jobs:
        here = registered.get(job.model or "") or (f"{names[job.id]} (run)" if job.id in names else "")
        state = f"[{STATES.get(job.state, 'default')}]{job.said}[/]"
        row = (job.id, f"{job.created:%Y-%m-%d}", job.base, state, job.model or job.error or "", here)
        table.add_row(*(cell if cell is state else escape(cell) for cell in row))
    return table
