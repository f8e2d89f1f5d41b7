"""A judge's report as one HTML file: win rates by category and turn, canaries, missing verdicts, each pair.

Everything that a model or a person wrote is escaped, and the page's own policy forbids it to load anything.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.report_groups import GroupVerdict, by_group, null_reasons
from evals.reports.interval_chart import Span, axis_cell, interval_cell
from evals.reports.report_file import write_file
from models.chat.messages import Message
from models.html_page import more, notes, page, sides, table


def write_judge_report(path: Path, report: JudgeReport) -> None:
    """Writes the report as one file.

    Raises:
        Invalid: the file cannot be written.
    """
    write_file(path, judge_report_html(report))


def judge_report_html(report: JudgeReport) -> str:
    """The report's text."""
    body = _head(report) + _groups(report) + _canaries(report) + _missing(report) + _pairs(report)
    return page(f"{report.judge} on {report.model_a} and {report.model_b}", body)


def _head(report: JudgeReport) -> str:
    trusted = "" if report.trusted else " <span class=bad>do not rely on it</span>"
    trust = f"<p>{escape(report.trust)}</p>" if report.trust else ""
    details = (
        f"<p class=soft>Rubric {escape(report.rubric)}, version {escape(report.rubric_version)} "
        f"<code>{report.rubric_hash}</code> · both orders, "
        f"{report.samples} {'sample' if report.samples == 1 else 'samples'} each</p>"
    )
    return (
        f"<h1>{escape(report.model_b)} compared with {escape(report.model_a)}</h1>"
        f"<p class=soft>judged by {escape(report.judge)}{trusted}</p>"
        f"<p>{escape(report.summary)}</p>{trust}{more('Details', details + notes(report.notes))}"
    )


def _groups(report: JudgeReport) -> str:
    head = ("", "win rate, 95 %", axis_cell(0, 1), "judged", "won", "lost", "tied", "order-dependent", "no verdict")
    rows = [_group(group) for group in by_group(report)]
    return (
        f"<h2>How often {escape(report.model_b)} wins</h2>{table(head, rows)}<p class=soft>A tie counts as half a win. "
        "If the two orders disagree, the pair is a tie and counted as “order-dependent”. Intervals are clustered "
        "by prompt: the turns of one conversation count as one. Pairs without a verdict are left out.</p>"
    )


def _group(group: GroupVerdict) -> tuple[str, ...]:
    rate = group.rate
    text = f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})" if rate else "–"
    span = Span(rate.value, rate.low, rate.high) if rate else Span(None, None, None)
    numbers = (group.judged, group.wins_b, group.wins_a, group.ties, group.flips, group.nulls)
    return (escape(group.name), text, interval_cell(span, (0, 1)), *(str(number or "") for number in numbers))


def _canaries(report: JudgeReport) -> str:
    rows = [
        (
            canary.kind,
            f"{canary.lost} of {canary.asked}",
            f"<span class={'good' if canary.passed else 'bad'}>{'passed' if canary.passed else escape(canary.outcome)}"
            "</span>",
        )
        for canary in report.canaries
    ]
    explanation = "<p class=soft>Canaries are worthless answers that a reliable judge must reject.</p>"
    return f"<h2>Canaries</h2>{explanation}{table(('canary', 'rejected', ''), rows)}"


def _missing(report: JudgeReport) -> str:
    reasons = null_reasons(report)
    if not reasons:
        return ""
    rows = table(("reason", "pairs"), [(escape(why), str(count)) for why, count in reasons])
    return f"<h2>Missing verdicts</h2><p>{report.nulls} of {len(report.rows)} pairs have no verdict.</p>{rows}"


def _pairs(report: JudgeReport) -> str:
    return "<h2>Every pair</h2>" + "".join(_pair(report, row) for row in report.rows)


def _pair(report: JudgeReport, row: JudgedPair) -> str:
    outcome = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "no verdict"}[row.outcome]
    if row.consistent is False:
        outcome = "tie: the order changed the verdict"
    question = " ".join(row.question.split())
    short = question if len(question) <= 100 else question[:99] + "…"
    where = [part for part in (row.category, f"turn {row.turn}" if row.turn > 1 else "") if part]
    answers = sides(
        *(
            (f"{escape(model)}{_scores(scores)}", f"{_history(before)}<pre>{escape(answer)}</pre>")
            for model, before, answer, scores in (
                (report.model_a, row.before_a, row.answer_a, row.scores_a),
                (report.model_b, row.before_b, row.answer_b, row.scores_b),
            )
        )
    )
    why = row.null or row.reasons
    return (
        f"<details><summary>{escape(outcome)} · {escape(short)} <span class=soft>{escape(' · '.join(where))}</span>"
        f"</summary><p class=soft>Question</p><pre>{escape(row.question)}</pre>"
        + (f"<p>{escape(why)}</p>" if why else "")
        + f"{answers}</details>"
    )


def _scores(scores: Mapping[str, float]) -> str:
    if not scores:
        return ""
    return " · " + escape(", ".join(f"{name} {score:.1f}" for name, score in scores.items()))


def _history(messages: Sequence[Message]) -> str:
    if not messages:
        return ""
    turns = "".join(f"<pre>{escape(message.role)}: {escape(message.content)}</pre>" for message in messages)
    return more("Conversation before", turns)
