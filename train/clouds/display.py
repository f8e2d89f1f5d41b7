"""How cloud runs look in a terminal: the offer with its price, the events, the list of jobs."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from models.quantities import count_noun
from models.terminal import console
from train.clouds.cloud import CloudEvent, CloudJob
from train.clouds.offer import Offer, format_dollars
from train.clouds.run_records import CloudRun
from train.data.conversations import Problem

_STATES = {"succeeded": "green", "failed": "red", "cancelled": "dim", "running": "yellow"}
LEVELS = {"near": "yellow", "urgent": "red"}
_MOST_ERRORS = 8


def show_errors(problems: Sequence[Problem]) -> None:
    """The lines that are left out, with their errors."""
    out = console()
    errors = [problem for problem in problems if problem.severity == "error"]
    for problem in errors[:_MOST_ERRORS]:
        out.print(f"[red]line {problem.line}[/]: {escape(problem.message)} (left out; {escape(problem.mend)})")
    if len(errors) > _MOST_ERRORS:
        out.print(f"… and {len(errors) - _MOST_ERRORS:,} more: `parley data check` lists them all.")


def show_offer(offer: Offer) -> None:
    """The table that a person agrees to."""
    show_errors(offer.problems)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("train", f"[bold]{escape(offer.base)}[/] at {offer.cloud}, as {escape(offer.name)}")
    table.add_row(
        "data", f"{count_noun(offer.examples, 'example')}, {offer.held_out:,} held out, {offer.left_out:,} left out"
    )
    for choice in offer.choices:
        table.add_row(choice.name, f"{choice.value}  [dim]{escape(choice.reason)}[/]")
    quote = offer.quote
    if quote:
        about, how = "about " if quote.estimated else "", quote.counted.split(": ")[0]
        table.add_row("tokens", f"{about}{quote.billed_tokens:,} billed  [dim]{escape(how)}[/]")
        price = f"[bold]{about}{format_dollars(quote.usd)}[/] at ${quote.rate:g} per million tokens"
        table.add_row("price", f"{price}  [dim]as of {quote.as_of}[/]")
        if quote.notes:
            table.add_row("", f"[dim]{escape(quote.notes)}[/]")
    else:
        table.add_row("price", "[yellow]unknown[/]")
    out = console()
    out.print(table)
    for warning in offer.warnings:
        out.print(f"[yellow]Note[/] {escape(warning)}.")


class EventPrinter:
    """Prints events: in a terminal lines and a progress bar, elsewhere plain lines; nothing if `silent`."""

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

    def __enter__(self) -> "EventPrinter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def print(self, line: str) -> None:
        """Prints a line of our own."""
        if not self._silent:
            self._out.print(line, markup=False)

    def __call__(self, event: CloudEvent) -> None:
        if self._silent:
            return
        if event.step is not None and event.loss is not None and self._bar:
            self._update_bar(event)
            return
        colour = {"error": "red", "warning": "yellow"}.get(event.level, "")
        self._out.print(f"{event.created:%H:%M:%S}  {event.message}", style=colour, markup=False)

    def _update_bar(self, event: CloudEvent) -> None:
        figures = f"loss {event.loss:.3f}"
        if event.validation_loss is not None:
            figures += f" · validation {event.validation_loss:.3f}"
        if self._task is None:
            self._task = self._bar.add_task("training", total=event.steps, figures=figures)
        self._bar.update(self._task, completed=event.step, total=event.steps, figures=figures)


def jobs_table(jobs: Sequence[CloudJob], runs: Sequence[CloudRun], registered: dict[str, str]) -> Table:
    """The jobs of the account, with the names of their models here."""
    names = {run.job: run.name for run in runs if run.job}
    table = Table(box=None, header_style="bold")
    for column in ("job", "created", "base", "state", "model", "here"):
        # Folded, not truncated: ids are copied from the table.
        table.add_column(column, overflow="fold", no_wrap=column == "created")
    for job in jobs:
        here = registered.get(job.model or "") or (f"{names[job.id]} (run)" if job.id in names else "")
        state = f"[{_STATES.get(job.state, 'default')}]{escape(job.provider_status)}[/]"
        cells = (job.id, f"{job.created:%Y-%m-%d}", job.base, state, job.model or job.error or "", here)
        table.add_row(*(cell if cell is state else escape(cell) for cell in cells))
    return table
