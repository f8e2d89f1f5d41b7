"""An evaluation as one HTML file: means, intervals, differences, and regressions with both answers.

Everything that a model or a person wrote is escaped, and the page's own policy forbids it to load anything.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evals.reports.interval_chart import Span, axis_cell, interval_cell
from evals.reports.report_file import write_file
from evals.scorers.score_summary import ScoreSummary
from evals.tasks.evaluations import Evaluation, ScorerInfo
from evals.tasks.summaries import Change, Diff, Difference, Overview
from models.html_page import more, notes, page, sides, table

_MAX_REGRESSIONS = 200  # in the file; the rest are counted
_DIRECTION = {"higher": "higher is better", "lower": "lower is better", "neither": "neither direction is better"}


def write_report(path: Path, evaluation: Evaluation, overview: Overview, compared: Diff | None) -> None:
    """Writes the report as one file.

    Raises:
        Invalid: the file cannot be written.
    """
    write_file(path, report_html(evaluation, overview, compared))


def report_html(evaluation: Evaluation, overview: Overview, compared: Diff | None = None) -> str:
    """The report's text: means by scorer and category, and differences and regressions if `compared` is given."""
    parts = [_head(evaluation, overview)]
    if compared and compared.differences:
        parts += [_differences(compared), _regressions(compared)]
    parts += [_scorer(evaluation, overview, scorer) for scorer in evaluation.scorers]
    parts.append(_failures(overview))
    return page(f"{evaluation.task}: {', '.join(evaluation.models)}", "".join(parts))


def number(value: float | None, scorer: ScorerInfo | None = None) -> str:
    """A score as text: two decimals for bounded scores, three digits for others, a dash for none."""
    if value is None:
        return "–"
    if scorer is None or scorer.low is None or scorer.high is not None:
        return f"{value:.2f}"
    return f"{value:.3g}"


def interval(summary: ScoreSummary, scorer: ScorerInfo | None = None) -> str:
    """A mean with its interval, `0.82 (0.71 to 0.90)`; the mean alone if there is no interval."""
    if summary.low is None or summary.high is None:
        return number(summary.mean, scorer)
    return f"{number(summary.mean, scorer)} ({number(summary.low, scorer)} to {number(summary.high, scorer)})"


def _head(evaluation: Evaluation, overview: Overview) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in evaluation.parameters.items())
    left_out = f"; {evaluation.left_out} rows left out as unreadable" if evaluation.left_out else ""
    details = (
        f"<p class=soft>{escape(parameters)} · evaluation <code>{evaluation.id}</code> · content "
        f"<code>{evaluation.task_hash[:16]}</code></p>{notes(evaluation.notes)}"
    )
    counts = table(
        ("model", "answered", "failed", "cut at max_tokens"),
        [(escape(row.model), str(row.answered), str(row.failed), str(row.cut)) for row in overview.facts],
    )
    return (
        f"<h1>{escape(evaluation.task)}</h1>"
        f"<p class=soft>{len(evaluation.samples)} samples from {escape(evaluation.source)}{left_out} · "
        f"{evaluation.created:%Y-%m-%d %H:%M} UTC</p>{counts}"
        "<p class=soft>Intervals are 95 %, clustered by prompt or group. A failed answer has no score and is counted "
        f"as failed.</p>{more('Details', details)}"
    )


def _scorer(evaluation: Evaluation, overview: Overview, scorer: ScorerInfo) -> str:
    rows = [(model, overview.of(model, scorer.name)) for model in evaluation.models]
    html = f"<h2>{escape(scorer.name)} <span class=soft>· {_DIRECTION[scorer.better]}</span></h2>"
    html += _means(rows, scorer)
    if not overview.categories or all(summary.mean is None for _, summary in rows):
        return html
    parts = "".join(
        f"<h3>{escape(category)}</h3>"
        + _means([(model, overview.of(model, scorer.name, category)) for model in evaluation.models], scorer)
        for category in overview.categories
    )
    return html + f"<details><summary>{escape(scorer.name)} by category</summary>{parts}</details>"


def _means(rows: Sequence[tuple[str, ScoreSummary]], scorer: ScorerInfo) -> str:
    if all(summary.mean is None for _, summary in rows):
        return "<p class=soft>No sample has a reference for this scorer.</p>"
    axis = _range([summary for _, summary in rows], scorer)
    return table(
        ("model", "mean, 95 %", axis_cell(*axis), "scored", "no score"),
        [
            (
                escape(name),
                interval(summary, scorer),
                interval_cell(_span(summary), axis),
                str(summary.n),
                str(summary.missing or ""),
            )
            for name, summary in rows
        ],
    )


def _differences(compared: Diff) -> str:
    html = f"<h2>Differences</h2><p>{escape(compared.summary)}</p>"
    groups: dict[tuple[str, str, str], list[Difference]] = {}
    for row in compared.differences:
        if row.summary.mean is not None:
            groups.setdefault((row.model_a, row.model_b, row.scorer), []).append(row)
    for (a, b, name), rows in groups.items():
        ends = [end for row in rows for end in (row.wide.low, row.wide.high, row.summary.mean) if end is not None]
        reach = max((abs(end) for end in ends), default=0.0) or 1.0
        axis = (-reach, reach)
        cells = [
            (
                escape(row.category or "all"),
                interval(row.summary, row.facts),
                interval_cell(_span(row.summary), axis, _span(row.wide)),
                str(row.summary.n),
                f"<span class={_tone(row)}>{row.finding}</span>",
            )
            for row in rows
        ]
        head = ("category", "difference, 95 %", axis_cell(*axis), "pairs", f"{escape(b)} is")
        html += f"<h3>{escape(name)}: {escape(b)} minus {escape(a)}</h3>{table(head, cells)}"
    return html


def _tone(row: Difference) -> str:
    return {"better": "good", "worse": "bad"}.get(row.finding, "soft")


def _regressions(compared: Diff) -> str:
    worse = len(compared.regressions)
    html = f"<h2>Regressions</h2><p>{worse} scores got worse, {compared.improvements} got better.</p>"
    html += "".join(_change(change) for change in compared.regressions[:_MAX_REGRESSIONS])
    if worse > _MAX_REGRESSIONS:
        html += f"<p class=soft>{worse - _MAX_REGRESSIONS} more are in the JSON.</p>"
    return html


def _change(change: Change) -> str:
    question = " ".join(change.sample.question.split())
    short = question if len(question) <= 110 else question[:109] + "…"
    category = f"· {escape(change.sample.sample.category)}" if change.sample.sample.category else ""
    expected = "".join(f"<pre>{escape(text)}</pre>" for text in change.sample.sample.accepted)
    answers = sides(
        (escape(change.model_a), f"<pre>{escape(change.text_a)}</pre>"),
        (escape(change.model_b), f"<pre>{escape(change.text_b)}</pre>"),
    )
    return (
        f"<details><summary>{escape(change.scorer)} {change.score_a:.2f} → {change.score_b:.2f} · {escape(short)} "
        f"<span class=soft>{category}</span></summary>"
        f"<p class=soft>Question, sample <code>{escape(change.sample.id)}</code></p>"
        f"<pre>{escape(change.sample.question)}</pre>"
        + (f"<p class=soft>Expected answer</p>{expected}" if expected else "")
        + f"{answers}</details>"
    )


def _failures(overview: Overview) -> str:
    rows = [
        *((row.model, error, count) for row in overview.facts for error, count in row.errors),
        *((f"scorer {name}", error, count) for name, error, count in overview.scorer_errors),
    ]
    if not rows:
        return ""
    cells = [(escape(where), escape(error), str(count)) for where, error, count in rows]
    return f"<h2>What failed</h2>{table(('where', 'error', 'samples'), cells)}"


def _span(summary: ScoreSummary) -> Span:
    return Span(summary.mean, summary.low, summary.high)


def _range(rows: Sequence[ScoreSummary], scorer: ScorerInfo) -> tuple[float, float]:
    if scorer.low is not None and scorer.high is not None:
        return scorer.low, scorer.high
    ends = [end for row in rows for end in (row.low, row.high, row.mean) if end is not None]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
