"""Terminal output of this room: lines, tables that fold, and a progress bar."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.tasks.runner import Progress

SHORT_ID = 8  # the last characters of an id, which are enough to name it in a command
_SHORT = 48


def echo(content: Any) -> None:
    """Prints a line or a table for people."""
    from models.terminal import console

    # No markup: a name or a question may contain [brackets].
    console().print(content, markup=False)


def folding_table(*names: str) -> Any:
    """A Rich table that folds wide cells and truncates nothing. A column "id" is for short ids and never folds."""
    from rich.table import Column, Table

    columns = (
        Column(name, no_wrap=True, min_width=SHORT_ID) if name == "id" else Column(name, overflow="fold")
        for name in names
    )
    return Table(*columns, box=None, header_style="bold")


def shorten(text: str, length: int = _SHORT) -> str:
    """A text as one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


class ProgressBar:
    """A Rich progress bar on a terminal; nothing where it is not shown."""

    def __init__(self, shown: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        from models.terminal import console

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = RichProgress(*columns, transient=True, console=console(), disable=not shown)
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show_answers(self, progress: "Progress") -> None:
        """Shows how many answers there are."""
        failed = f", {progress.failed} failed" if progress.failed else ""
        self._progress.update(
            self._task, completed=progress.done, total=progress.total, description=f"answering{failed}"
        )

    def show_line(self, line: str) -> None:
        """Replaces the bar's text without moving the bar."""
        self._progress.update(self._task, description=line)

    def show_share(self, share: float, line: str) -> None:
        """Shows a share of 0 to 1 as a percentage, and a line."""
        self._progress.update(self._task, completed=round(100 * share), total=100, description=line)
