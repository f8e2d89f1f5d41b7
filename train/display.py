"""A finished training, and problems of its data, on the terminal."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from models.errors import ParleyError
from models.terminal import console, print_json

if TYPE_CHECKING:
    from train.data.conversations import Problem
    from train.run.folder import TrainingResult
    from train.run.node import NodeResult
    from train.run.progress import Progress

_SHOWN_PROBLEMS = 20


def terminal_lines() -> "Progress":
    """A receiver that prints each stage as a line."""
    from train.run.progress import PlainLines

    out = console()
    return PlainLines(lambda line: out.print(f"[dim]•[/dim] {escape(line)}"))


@contextmanager
def problems_shown(as_json: bool) -> Iterator[None]:
    """Lists the problems of the data, line by line, before an error about it."""
    from train.data.checks import UnusableData

    try:
        yield
    except UnusableData as error:
        if as_json:
            print_json({"error": str(error), "problems": [asdict(problem) for problem in error.problems]})
        else:
            show_problems(error.problems)
        raise
    except ParleyError as error:
        if as_json:
            print_json({"error": str(error), "problems": []})
        raise


def show_problems(problems: "tuple[Problem, ...]") -> None:
    """Prints a table of problems: line, severity, what is wrong, what to do."""
    if not problems:
        return
    table = Table("line", "", "what is wrong", "what to do", box=None, header_style="bold")
    for problem in problems[:_SHOWN_PROBLEMS]:
        colour = "red" if problem.severity == "error" else "yellow"
        line = str(problem.line) if problem.line else "all"
        # Escaped: a message quotes the data, and a role of "[/b]" would be taken for markup.
        text = (escape(problem.message), escape(problem.mend))
        table.add_row(line, f"[{colour}]{problem.severity}[/{colour}]", *text)
    terminal = console()
    terminal.print(table, markup=True)
    if len(problems) > _SHOWN_PROBLEMS:
        terminal.print(f"… and {len(problems) - _SHOWN_PROBLEMS:,} more; --json has them all.")


def show_result(result: "TrainingResult", address: str) -> None:
    """Prints the losses, how every "auto" was chosen, and where the model is; `address` is the gateway's."""
    from train.hyperparameters import UNITS
    from train.run.progress import duration

    show_problems(result.problems)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    measured = "held-out" if result.measured_on == "validation" else "training"
    unit = UNITS[result.method]
    table.add_row("loss", f"[bold]{result.loss_before:.3f} → {result.loss_after:.3f}[/bold] on {measured} examples")
    if result.accuracy_after is not None:
        of = {
            "dpo": "of pairs ranked correctly", "kto": "of labelled answers moved in the right direction",
        }.get(result.method, "of answer tokens predicted")  # fmt: skip
        table.add_row("accuracy", f"{result.accuracy_after:.1%} {of}")
    if result.margin_after is not None:
        kinds = "good and bad" if result.method == "kto" else "preferred and other"
        table.add_row("margin", f"{result.margin_after:.2f} between {kinds} answers")
    if result.best_step is not None:
        table.add_row("stopped", f"early, with the weights of step {result.best_step:,}")
    examples = f"{result.examples:,} for training, {result.validation_examples:,} held out"
    table.add_row(unit, examples)
    table.add_row("tokens", f"{result.tokens:,}, {result.learnt_tokens:,} of them in answers")
    table.add_row("time", f"{duration(result.seconds)} ({result.tokens_per_s:,.0f} tokens/s)")
    if result.peak_memory_bytes:
        table.add_row("memory", f"{result.peak_memory_bytes / 2**30:.1f} GiB at the peak")
    for name, reason in result.reasons.items():
        table.add_row(name.replace("_", " "), f"{_plain(result.hyperparameters[name])}  [dim]{reason}[/dim]")
    table.add_row("run", escape(str(result.run_folder)))
    table.add_row("model", escape(str(result.model_folder)))
    terminal = console()
    terminal.print(table)
    terminal.print(
        f"`parley up` serves it as [bold green]{escape(str(result.model))}[/bold green] ({result.kind} of "
        f"{escape(result.base)}) at {address}."
    )


def show_node_result(result: "NodeResult", as_json: bool) -> None:
    """Prints how a training ended on a node other than node 0."""
    if as_json:
        print_json(asdict(result))
        return
    loss = f" with a loss of {result.loss_after:.3f}" if result.loss_after is not None else ""
    console().print(f"Node {result.node} finished its part of run {result.run}{loss}. Node 0 publishes the model.")


def _plain(value: object) -> str:
    """A value for people: 4,096, bf16, no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def open_progress(as_json: bool) -> "AbstractContextManager[Progress]":
    """What shows a training's events: a live display, plain lines without a terminal, nothing with --json."""
    from train.run.progress import PlainLines, Terminal, silent

    if as_json:
        return nullcontext(silent)
    return Terminal(console()) if sys.stdout.isatty() else nullcontext(PlainLines())
