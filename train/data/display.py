"""How reports, conversions, splits and syntheses look in a terminal: Rich tables. It computes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.quantities import count_noun

if TYPE_CHECKING:
    from train.data.advice import Advice
    from train.data.conversations import Problem
    from train.data.conversion import Converted, SplitFiles
    from train.data.reports import CheckedData
    from train.data.synthesis import Synthesis

_FIRST_LINES = 4  # line numbers shown for a grouped problem


def show_report(console: Console, report: "CheckedData", *, all_problems: bool, title: str = "data") -> None:
    """The problems, the size of the data, and the verdict; then the same for validation data."""
    show_problems(console, report.problems, all_problems=all_problems)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row(title, f"{escape(report.source)} ({report.format or 'unknown format'})")
    kind = "preference pair" if report.preferences else "labelled answer" if report.labels else "example"
    number = len(report.examples) + len(report.preferences)
    table.add_row("lines", f"{report.lines:,}: [bold]{count_noun(number, kind)}[/bold], {report.left_out:,} left out")
    for unit, values in (("turns", report.turns), ("characters", report.characters)):
        if values:
            median = sorted(values)[len(values) // 2]
            table.add_row(unit, f"{min(values):,} to {max(values):,}, median {median:,}")
    verdict = "[green]ready[/green]" if report.passes(True) else "[yellow]usable, with warnings[/yellow]"
    if report.errors:
        verdict = "[red]has errors[/red]" if report.usable else "[red]not usable for training[/red]"
    table.add_row(
        "verdict",
        f"{verdict}: {count_noun(len(report.errors), 'error')}, {count_noun(len(report.warnings), 'warning')}",
    )
    console.print(table)
    if report.validation:
        console.print()
        show_report(console, report.validation, all_problems=all_problems, title="validation")


def show_problems(console: Console, problems: "Sequence[Problem]", *, all_problems: bool = False) -> None:
    """One row for each kind of problem, with its first lines; with `all_problems` one row for each problem."""
    if not problems:
        return
    groups: dict[tuple[Any, ...], list[Problem]] = defaultdict(list)
    for place, problem in enumerate(problems):
        groups[(place,) if all_problems else (problem.code, problem.severity, problem.mend)].append(problem)
    rows = list(groups.values())
    if not all_problems:
        rows.sort(key=lambda group: (group[0].severity != "error", -len(group)))
    table = Table("lines", "", "problem", "what to do", box=None, header_style="bold", pad_edge=False)
    table.columns[0].min_width, table.columns[1].no_wrap = 5, True
    for group in rows:
        first = group[0]
        colour = "red" if first.severity == "error" else "yellow"
        # Escaped: a message quotes the data, and a role of "[/b]" would be taken for markup.
        message = f"{escape(first.message)} [dim]{first.code}[/dim]"
        table.add_row(_lines(group), f"[{colour}]{first.severity}[/{colour}]", message, escape(first.mend))
    console.print(table)
    if not all_problems and len(problems) > len(rows):
        kinds = "one kind" if len(rows) == 1 else f"{len(rows)} kinds"
        console.print(f"[dim]{len(problems):,} problems of {kinds}; --all lists each.[/dim]")
    console.print()


def show_conversion(console: Console, converted: "Converted") -> None:
    """What was written, and what was left out."""
    show_problems(console, converted.problems)
    console.print(
        f"{count_noun(converted.written, 'row')} from {count_noun(converted.lines, 'line')} "
        f"({converted.format or 'unknown format'}), "
        f"{converted.left_out:,} left out: [bold]{escape(str(converted.path))}[/bold]"
    )


def show_split(console: Console, split: "SplitFiles") -> None:
    """The sizes of both parts, for each value of the field that the split is stratified by."""
    show_problems(console, split.problems)
    table = Table("", "training", "validation", "share", box=None, header_style="bold")
    for value, (training, validation) in split.strata.items():
        share = validation / (training + validation)
        table.add_row(escape(value) or "[dim](none)[/dim]", f"{training:,}", f"{validation:,}", f"{share:.1%}")
    total = split.train_rows + split.validation_rows
    share = split.validation_rows / total if total else 0.0
    table.add_row("all", f"{split.train_rows:,}", f"{split.validation_rows:,}", f"{share:.1%}", style="bold")
    console.print(table)
    console.print(f"[bold]{escape(str(split.train))}[/bold] and [bold]{escape(str(split.validation))}[/bold]")


def show_synthesis(console: Console, synthesis: "Synthesis") -> None:
    """How many examples were made, and how many answers were discarded for which reason."""
    counts = synthesis.counted
    colour = "green" if synthesis.ended == "enough" else "yellow"
    console.print(f"[{colour}]{escape(synthesis.summary)}[/{colour}]")
    console.print(
        f"{count_noun(counts.asked, 'request')}; discarded: {count_noun(counts.copies, 'copy', 'copies')}, "
        f"{count_noun(counts.near_copies, 'near copy', 'near copies')}, "
        f"{counts.unfit:,} with errors; {count_noun(counts.unreadable, 'answer')} without an example, "
        f"{counts.failed:,} failed"
    )
    if counts.made:
        console.print(f"[bold]{escape(str(synthesis.path))}[/bold]  Read some of them before you train on them.")


def show_advice(console: Console, advice: "Advice") -> None:
    """The decision, its reasons, and the questions that were left open."""
    console.print(f"Start with [bold green]{advice.choice}[/bold green].")
    for reason in advice.reasons:
        console.print(f"• {escape(reason)}")
    if advice.unanswered:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in advice.unanswered)
        console.print(f"[dim]Not answered: {flags}.[/dim]")


def _lines(group: "Sequence[Problem]") -> str:
    numbers = [f"{problem.line:,}" if problem.line else "all" for problem in group[:_FIRST_LINES]]
    more = f" [dim]and {len(group) - _FIRST_LINES:,} more[/dim]" if len(group) > _FIRST_LINES else ""
    return ", ".join(numbers) + more
