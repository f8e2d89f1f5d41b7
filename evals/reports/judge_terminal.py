"""What `parley judge` prints: verdicts, win rates by group, grades, a judge beside people, and a progress bar."""

import json
from typing import TYPE_CHECKING, Any

import typer

from evals.reports.evaluation_terminal import say

if TYPE_CHECKING:
    from evals.judges.calibration import Calibration
    from evals.judges.human_agreement import Rate
    from evals.judges.pointwise import Grades
    from evals.judges.report import JudgeReport

_QUESTION = 48
_ROWS = 40  # questions on the terminal
_LABELS, _NARROWEST = 40, 12  # characters beside a drawn interval, and of the shortest that says anything


def tell_report(report: "JudgeReport") -> None:
    """Each question with its verdict, win rates by group, canaries, and the words."""
    better = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "null"}
    table = _table("question", "better", "")
    for row in report.rows[:_ROWS]:
        said = row.null or ("the order decided" if row.consistent is False else row.reasons)
        table.add_row(_short(row.question), better[row.outcome], _short(said))
    say(table)
    if len(report.rows) > _ROWS:
        say(f"and {len(report.rows) - _ROWS} more: --html or --json has them all, with the answers")
    _tell_groups(report)
    canaries = _table("canary", "seen through", "")
    for canary in report.canaries:
        canaries.add_row(canary.kind, f"{canary.lost} of {canary.asked}", "" if canary.passed else "failed")
    say(canaries)
    for note in report.notes:
        say(f"Note: {note}")
    say(f"Rubric {report.rubric}, version {report.rubric_version} ({report.rubric_hash}).")
    if report.longer:
        people = f"; people took it in {_told(report.people_longer)}" if report.people_longer else ""
        say(f"It took the longer answer in {_told(report.longer)} of its decisions{people}.")
    if report.expected_rate:
        say(f"Weighted by its probabilities, {report.model_b} wins {_told(report.expected_rate)}.")
    say(report.summary)
    if report.trust:
        say(report.trust)


def _tell_groups(report: "JudgeReport") -> None:
    """Win rates by category and by turn, where there are some."""
    from evals.judges.report_groups import by_group

    found = by_group(report)
    if len(found) < 2:
        return
    table = _table(f"{report.model_b} wins", "rate (95 %)", "judged", "null", "order decided")
    for group in found:
        table.add_row(group.name, _told(group.rate), str(group.judged), str(group.nulls or ""), str(group.flips or ""))
    say(table)


def tell_grades(grades: "tuple[Grades, ...]", as_json: bool) -> None:
    """Each model's grades."""
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps([asdict(one) for one in grades], ensure_ascii=False))
        return
    criteria = list(dict.fromkeys(name for one in grades for name in one.scores))
    table = _table("model", "grade (1 to 5)", *criteria, "graded", "unread")
    for one in grades:
        mean = "–" if one.mean is None else f"{one.mean:.2f} ({one.low:.2f}–{one.high:.2f})"
        scores = (f"{one.scores[name]:.2f}" if name in one.scores else "–" for name in criteria)
        table.add_row(one.model, mean, *scores, str(one.graded), str(one.unparsed))
    say(table)
    for note in grades[0].notes:
        say(f"Note: {note}")
    weighed = sum(one.weighed for one in grades)
    if weighed:
        say(f"{weighed} of {sum(one.graded for one in grades)} grades are weighted.")


def tell_calibration(found: "Calibration", plot: bool) -> None:
    """A judge beside people, by category, drawn where wanted."""
    from evals.reports.interval_chart import TERMINAL, interval_line
    from models.terminal import console

    table = _table("votes on", "votes", "agrees", "without ties", "kappa", "people", "trust")
    for group in found.groups:
        table.add_row(
            group.category or "everything",
            str(group.votes),
            _told(group.with_ties),
            _told(group.without_ties),
            f"{group.kappa.value:.2f} ({group.kappa.low:.2f}–{group.kappa.high:.2f})" if group.kappa else "–",
            _told(group.people),
            {"yes": "yes", "no": "no", "unknown": "not known"}[group.trusted],
        )
    if found.groups:
        say(table)
    width = max(_NARROWEST, min(TERMINAL, console().width - _LABELS))
    for group in found.groups if plot else ():
        for name, rate in (("judge and people", group.with_ties), ("people and people", group.people)):
            if rate:
                line = interval_line(rate.low, rate.value, rate.high, 0, 1, width)
                say(f"{(group.category or 'everything')[:16]:16} {name:17} 0 {line} 1")
    say(f"Rubric {found.rubric} ({found.rubric_hash}). {found.unparsed} verdicts unread, {found.failed} failed.")
    say(found.words)


def _table(*names: str) -> Any:
    """A table that folds what is too wide, and cuts nothing."""
    from rich.table import Column, Table

    return Table(*(Column(name, overflow="fold") for name in names), box=None, header_style="bold")


def _told(rate: "Rate | None") -> str:
    return "–" if rate is None else f"{100 * rate.value:.0f} % ({100 * rate.low:.0f}–{100 * rate.high:.0f})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION else line[: _QUESTION - 1] + "…"


class ShareBar:
    """A progress bar where a person looks on; nothing otherwise."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> "ShareBar":
        if self._shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            from models.terminal import console

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, transient=True, console=console())
            self._progress.start()
            self._task = self._progress.add_task("starting", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def tell(self, done: float, doing: str) -> None:
        """Shows a share of 0 to 1 and a line."""
        if self._progress:
            self._progress.update(self._task, completed=done, description=doing)
