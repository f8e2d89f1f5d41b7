"""Terminal output of `parley judge`: verdicts, win rates by group, grades, agreement with people."""

from typing import TYPE_CHECKING

from evals.reports.terminal import echo, folding_table, shorten
from models.terminal import print_json

if TYPE_CHECKING:
    from evals.judges.calibration import Calibration
    from evals.judges.human_agreement import Rate
    from evals.judges.pointwise import Grades
    from evals.judges.report import JudgeReport

_MAX_ROWS = 40  # questions on the terminal
_LABELS, _MIN_WIDTH = 40, 12  # characters beside a drawn interval, and of the narrowest one


def print_report(report: "JudgeReport") -> None:
    """Prints each question with its verdict, win rates by group, canaries, and the summary."""
    names = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "no verdict"}
    table = folding_table("question", "better", "")
    for row in report.rows[:_MAX_ROWS]:
        reason = row.null or ("the order changed the verdict" if row.consistent is False else row.reasons)
        table.add_row(shorten(row.question), names[row.outcome], shorten(reason))
    echo(table)
    if len(report.rows) > _MAX_ROWS:
        echo(f"and {len(report.rows) - _MAX_ROWS} more: --html and --json have them all, with the answers")
    _print_groups(report)
    canaries = folding_table("canary", "rejected", "")
    for canary in report.canaries:
        canaries.add_row(canary.kind, f"{canary.lost} of {canary.asked}", "" if canary.passed else "failed")
    echo(canaries)
    for note in report.notes:
        echo(f"Note: {note}")
    echo(f"Rubric {report.rubric}, version {report.rubric_version} ({report.rubric_hash}).")
    if report.longer:
        people = f"; people did in {_percent(report.people_longer)}" if report.people_longer else ""
        echo(f"It preferred the longer answer in {_percent(report.longer)} of its decisions{people}.")
    if report.expected_rate:
        echo(f"Weighted by the judge's probabilities, {report.model_b} wins {_percent(report.expected_rate)}.")
    if report.unparsed or report.failed:
        echo(f"{report.unparsed} verdicts could not be parsed, {report.failed} requests failed.")
    echo(report.summary)
    if report.trust:
        echo(report.trust)


def _print_groups(report: "JudgeReport") -> None:
    from evals.judges.report_groups import by_group

    groups = by_group(report)
    if len(groups) < 2:
        return
    table = folding_table(f"{report.model_b} wins", "rate (95 %)", "judged", "no verdict", "order-dependent")
    for group in groups:
        table.add_row(
            group.name, _percent(group.rate), str(group.judged), str(group.nulls or ""), str(group.flips or "")
        )
    echo(table)


def print_grades(grades: "tuple[Grades, ...]", as_json: bool) -> None:
    """Prints each model's grades."""
    from dataclasses import asdict

    if as_json:
        print_json([asdict(row) for row in grades])
        return
    criteria = list(dict.fromkeys(name for row in grades for name in row.scores))
    table = folding_table("model", "grade (1 to 5)", *criteria, "graded", "unparsed")
    for row in grades:
        mean = "–" if row.mean is None else f"{row.mean:.2f} ({row.low:.2f}–{row.high:.2f})"
        scores = (f"{row.scores[name]:.2f}" if name in row.scores else "–" for name in criteria)
        table.add_row(row.model, mean, *scores, str(row.graded), str(row.unparsed))
    echo(table)
    for note in grades[0].notes:
        echo(f"Note: {note}")
    weighed = sum(row.weighed for row in grades)
    if weighed:
        echo(f"{weighed} of {sum(row.graded for row in grades)} grades are weighted by probabilities or criteria.")


def print_calibration(calibration: "Calibration", plot: bool) -> None:
    """Prints a judge's agreement with people by category, drawn if `plot` is true."""
    from evals.reports.interval_chart import TERMINAL_WIDTH, interval_line
    from models.terminal import console

    table = folding_table("votes on", "votes", "agrees", "without ties", "kappa", "people agree", "trust")
    for group in calibration.groups:
        table.add_row(
            group.category or "everything",
            str(group.votes),
            _percent(group.with_ties),
            _percent(group.without_ties),
            f"{group.kappa.value:.2f} ({group.kappa.low:.2f}–{group.kappa.high:.2f})" if group.kappa else "–",
            _percent(group.people),
            group.trusted,
        )
    if calibration.groups:
        echo(table)
    width = max(_MIN_WIDTH, min(TERMINAL_WIDTH, console().width - _LABELS))
    for group in calibration.groups if plot else ():
        for name, rate in (("judge and people", group.with_ties), ("people and people", group.people)):
            if rate:
                line = interval_line((rate.low, rate.value, rate.high), (0, 1), width)
                echo(f"{(group.category or 'everything')[:16]:16} {name:17} 0 {line} 1")
    echo(f"Rubric {calibration.rubric} ({calibration.rubric_hash}). Votes of the campaign {calibration.campaign}.")
    if calibration.unparsed or calibration.failed:
        echo(f"{calibration.unparsed} judgments could not be parsed, {calibration.failed} requests failed.")
    echo(calibration.summary)


def _percent(rate: "Rate | None") -> str:
    return "–" if rate is None else f"{100 * rate.value:.0f} % ({100 * rate.low:.0f}–{100 * rate.high:.0f})"
