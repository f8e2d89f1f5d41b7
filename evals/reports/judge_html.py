"""A judge's report as one HTML file: win rates by category and turn, canaries, nulls, each pair. No network, no script.

Everything that a model or a person wrote is escaped, and the page's own policy forbids it to load anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.report_groups import GroupVerdict, by_group, null_reasons
from evals.reports.html_page import axis, line, page, write_page
from models.messages import Message


@dataclass(frozen=True)
class _Span:
    mean: float | None
    low: float | None
    high: float | None


def write_judge_report(path: Path, report: JudgeReport) -> None:
    """Writes the report as one file.

    Raises:
        Invalid: the file cannot be written.
    """
    write_page(path, judge_report_html(report))


def judge_report_html(report: JudgeReport) -> str:
    """The report's text."""
    body = _head(report) + _groups(report) + _canaries(report) + _nulls(report) + _pairs(report)
    return page(f"{report.judge} on {report.model_a} and {report.model_b}", body)


def _head(report: JudgeReport) -> str:
    trusted = "" if report.trusted else " <span class=bad>not to be trusted</span>"
    notes = "".join(f"<p class=soft>{escape(note)}</p>" for note in report.notes)
    trust = f"<p>{escape(report.trust)}</p>" if report.trust else ""
    return (
        f"<h1>{escape(report.model_b)} against {escape(report.model_a)}</h1>"
        f"<p class=soft>judged by {escape(report.judge)}{trusted} · rubric {escape(report.rubric)}, version "
        f"{escape(report.rubric_version)} <code>{report.rubric_hash}</code> · both orders, "
        f"{report.samples} {'sample' if report.samples == 1 else 'samples'} each</p>"
        f"<p>{escape(report.summary)}</p>{trust}{notes}"
    )


def _groups(report: JudgeReport) -> str:
    cells = "".join(_group(group) for group in by_group(report))
    return (
        f"<h2>How often {escape(report.model_b)} wins</h2><div class=wide><table><tr><th></th><th>rate, 95 %</th>"
        f"<th>{axis(0, 1)}</th><th>judged</th><th>won</th><th>lost</th><th>tied</th><th>order decided</th>"
        f"<th>null</th></tr>{cells}</table></div><p class=soft>A tie is half a win. Where the two orders disagree it "
        "is a tie, and counted as «order decided». Intervals are clustered by prompt: the turns of one conversation "
        "are one. A null has no verdict in both orders: it is no tie.</p>"
    )


def _group(group: GroupVerdict) -> str:
    rate = group.rate
    told = f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})" if rate else "–"
    span = _Span(rate.value, rate.low, rate.high) if rate else _Span(None, None, None)
    numbers = (group.judged, group.wins_b, group.wins_a, group.ties, group.flips, group.nulls)
    return (
        f"<tr><td>{escape(group.name)}</td><td class=number>{told}</td><td>{line(span, None, 0, 1)}</td>"
        + "".join(f"<td class=number>{number or ''}</td>" for number in numbers)
        + "</tr>"
    )


def _canaries(report: JudgeReport) -> str:
    rows = "".join(
        f"<tr><td>{one.kind}</td><td class=number>{one.lost} of {one.asked}</td>"
        f"<td class={'good' if one.passed else 'bad'}>{'seen through' if one.passed else escape(one.words)}</td></tr>"
        for one in report.canaries
    )
    return (
        "<h2>Canaries</h2><div class=wide><table><tr><th>bait</th><th>seen through</th><th></th></tr>"
        f"{rows}</table></div>"
    )


def _nulls(report: JudgeReport) -> str:
    reasons = null_reasons(report)
    if not reasons:
        return ""
    rows = "".join(f"<tr><td>{escape(why)}</td><td class=number>{count}</td></tr>" for why, count in reasons)
    return (
        f"<h2>Nulls</h2><p>{report.nulls} of {len(report.rows)} pairs have no verdict.</p>"
        f"<div class=wide><table><tr><th>why</th><th>pairs</th></tr>{rows}</table></div>"
    )


def _pairs(report: JudgeReport) -> str:
    return "<h2>Every pair</h2>" + "".join(_pair(report, row) for row in report.rows)


def _pair(report: JudgeReport, row: JudgedPair) -> str:
    better = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "null"}[row.outcome]
    if row.consistent is False:
        better = "tie: the order decided"
    question = " ".join(row.question.split())
    short = question if len(question) <= 100 else question[:99] + "…"
    where = [part for part in (row.category, f"turn {row.turn}" if row.turn > 1 else "") if part]
    sides = "".join(
        f"<div><p class=soft>{escape(model)}{_told(scores)}</p>{_conversation(before)}<pre>{escape(answer)}</pre></div>"
        for model, before, answer, scores in (
            (report.model_a, row.before_a, row.answer_a, row.scores_a),
            (report.model_b, row.before_b, row.answer_b, row.scores_b),
        )
    )
    why = row.null or row.reasons
    return (
        f"<details><summary>{escape(better)} · {escape(short)} <span class=soft>{escape(' · '.join(where))}</span>"
        f"</summary><p class=soft>Asked</p><pre>{escape(row.question)}</pre>"
        + (f"<p>{escape(why)}</p>" if why else "")
        + f"<div class=sides>{sides}</div></details>"
    )


def _told(scores: Mapping[str, float]) -> str:
    if not scores:
        return ""
    return " · " + escape(", ".join(f"{name} {score:.1f}" for name, score in scores.items()))


def _conversation(before: Sequence[Message]) -> str:
    if not before:
        return ""
    turns = "".join(f"<pre>{escape(message.role)}: {escape(message.content)}</pre>" for message in before)
    return f"<details><summary class=soft>before it</summary>{turns}</details>"
