"""What `parley eval` prints: tables of means and differences, lines of what failed or got worse, a progress bar."""

from typing import TYPE_CHECKING, Any

from models.errors import Invalid

if TYPE_CHECKING:
    from evals.tasks.contamination import Contamination
    from evals.tasks.evaluations import Evaluation
    from evals.tasks.runner import Progress
    from evals.tasks.summaries import Diff, Overview
    from evals.tasks.task import Task

_TOLD = 20  # regressions or copied questions on the terminal; the rest are counted


def tell_bad_rows(task: "Task", skip: bool, quiet: bool) -> None:
    """One line for each row that is no sample, on standard error.

    Raises:
        Invalid: there are some, and they are not to be left out.
    """
    if not task.bad:
        return
    console = _errors()
    for row in task.bad if not quiet else ():
        console.print(str(row), markup=False)
    if not skip:
        raise Invalid(
            f"{len(task.bad)} of {len(task.bad) + len(task.samples)} rows of {task.source} are no samples "
            f"({task.bad[0].place}: {task.bad[0].what}). Mend them, or leave them out with --skip-bad.",
            param="task",
        )


def tell_overlap(overlap: "Contamination") -> None:
    """What of the task the training holds."""
    say(overlap.words)
    for found in overlap.found[:_TOLD]:
        likeness = "copied" if found.exact else f"{found.overlap:.0%} alike"
        say(f"  sample {found.sample.id}: {likeness}, {found.place}{', answer too' if found.answer_too else ''}")
    if len(overlap.found) > _TOLD:
        say(f"  and {len(overlap.found) - _TOLD} more")


def tell_overview(evaluation: "Evaluation", found: "Overview") -> None:
    """Means with intervals, and what failed."""
    from rich.table import Column, Table

    from evals.reports.evaluation_html import interval

    categories = (None, *found.categories)
    first = ["mean (95 %)", *(["category"] * bool(found.categories)), *evaluation.models]
    table = Table(*(Column(name, overflow="fold") for name in first), "samples", box=None, header_style="bold")
    for scorer in evaluation.scorers:
        for category in categories:
            cells = [found.of(model, scorer.name, category) for model in evaluation.models]
            if category is not None and all(cell.mean is None for cell in cells):
                continue
            table.add_row(
                "" if category else scorer.name, *([category or "all"] * bool(found.categories)),
                *(interval(cell, scorer) for cell in cells), _count([cell.n for cell in cells]),
            )  # fmt: skip
    say(table)
    for facts in found.facts:
        if facts.failed:
            said, count = facts.errors[0]
            say(f"{facts.model}: {facts.failed} of {facts.answered + facts.failed} failed, {count} of them so: {said}")
        if facts.cut:
            say(f"{facts.model}: {facts.cut} {'answer was' if facts.cut == 1 else 'answers were'} cut at max_tokens.")
    failing = {name for name, _, _ in found.scorer_errors}
    for scorer in evaluation.scorers:
        if scorer.name not in failing and not any(found.of(model, scorer.name).n for model in evaluation.models):
            say(f"{scorer.name} had nothing to go by in these samples: `parley eval scorers` says what each needs.")
    for name, said, count in found.scorer_errors:
        say(f"Scorer {name} failed on {_times(count, 'answer')}: {said}")


def tell_diff(compared: "Diff") -> None:
    """Differences with intervals, and what got worse."""
    from rich.table import Column, Table

    from evals.reports.evaluation_html import interval
    from evals.tasks.summaries import FEWEST

    thin = 0
    for one, other in dict.fromkeys((row.model_a, row.model_b) for row in compared.differences):
        names = ("difference (95 %)", "category", "", "samples", "it is")
        table = Table(*(Column(name, overflow="fold") for name in names), box=None, header_style="bold")
        for row in compared.differences:
            if (row.model_a, row.model_b) != (one, other) or row.summary.mean is None:
                continue
            if row.category and row.finding == "not enough evidence":
                thin += 1
                continue
            table.add_row(
                row.scorer, row.category or "all", interval(row.summary, row.facts), str(row.summary.n), row.finding
            )
        say(f"\n{other} against {one}:")
        say(table)
    if thin:
        say(f"{thin} more, by category, rest on under {FEWEST} prompts each: not enough evidence (--html, --json).")
    say(compared.words)
    if compared.regressions:
        lower = "1 score is" if len(compared.regressions) == 1 else f"{len(compared.regressions)} scores are"
        say(f"{lower} lower than before, {_are(compared.improvements)} higher. Lower:")
    else:
        say(f"No score is lower than before, {_are(compared.improvements)} higher.")
    for change in compared.regressions[:_TOLD]:
        question = " ".join(change.sample.question.split())
        short = question if len(question) <= 48 else question[:47] + "…"
        say(
            f"  {change.scorer} {change.score_a:.2f} → {change.score_b:.2f}  {change.model_b}, "
            f"sample {change.sample.id}: {short}"
        )
    if len(compared.regressions) > _TOLD:
        say(f"  and {len(compared.regressions) - _TOLD} more: --html or --json has them all, with the answers")


def tell_asking(asked: int, cached: int, seconds: float) -> None:
    """What the asking took."""
    before = f"{cached} {'was' if cached == 1 else 'were'} there before."
    if not asked:
        say(f"No answer was asked for; {before}")
        return
    rate = f", {asked / seconds:.1f} a second" if seconds else ""
    say(f"{_times(asked, 'answer')} in {seconds:.1f} s{rate}; {before}")


def _times(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count} are"


def _count(numbers: list[int]) -> str:
    """One number where all are the same, else from the least to the most."""
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}–{max(numbers)}"


class Bar:
    """A Rich progress bar, or nothing where it is not wanted."""

    def __init__(self, wanted: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Shown

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self._shown = Shown(*columns, transient=True, console=_console(), disable=not wanted)
        self._task = self._shown.add_task("starting", total=None)

    def __enter__(self) -> "Bar":
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def tell(self, progress: "Progress") -> None:
        failed = f", {progress.failed} failed" if progress.failed else ""
        self._shown.update(self._task, completed=progress.done, total=progress.total, description=f"asking{failed}")

    def tell_scoring(self, share: float, line: str) -> None:
        """A scorer that takes its time: a share of 0 to 1, and what it does."""
        self._shown.update(self._task, completed=round(100 * share), total=100, description=line)


def _console() -> Any:
    from models.terminal import console

    return console()


def _errors() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)


def say(what: Any) -> None:
    """Prints for people."""
    # No markup: a question may hold [brackets].
    _console().print(what, markup=False)
