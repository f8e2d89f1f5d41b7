"""An evaluation as one HTML file: tables, intervals drawn as SVG, regressions with both answers. No network, no script.

Everything that a model or a person wrote is escaped, and the page's own policy forbids it to load anything.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evals.reports.html_page import axis, line, page, write_page
from evals.scorers.score_summary import ScoreSummary
from evals.tasks.evaluations import Evaluation, ScorerFacts
from evals.tasks.summaries import Change, Diff, Difference, Overview

_SHOWN = 200  # regressions in the file; the rest are counted


def write_report(path: Path, evaluation: Evaluation, found: Overview, compared: Diff | None) -> None:
    """Writes the report as one file.

    Raises:
        Invalid: the file cannot be written.
    """
    write_page(path, report_html(evaluation, found, compared))


def report_html(evaluation: Evaluation, found: Overview, compared: Diff | None = None) -> str:
    """The report's text: means by scorer and category, and where `compared` is given, differences and regressions."""
    parts = [_head(evaluation, found)]
    if compared and compared.differences:
        parts += [_differences(compared), _regressions(compared)]
    parts += [_scorer(evaluation, found, scorer) for scorer in evaluation.scorers]
    parts.append(_failures(found))
    return page(f"{evaluation.task}: {', '.join(evaluation.models)}", "".join(parts))


def number(value: float | None, scorer: ScorerFacts | None = None) -> str:
    """A score as it is shown: two places for shares, three digits for everything else, a dash for none."""
    if value is None:
        return "–"
    if scorer is None or scorer.low is None or scorer.high is not None:
        return f"{value:.2f}"
    return f"{value:.3g}"


def interval(summary: ScoreSummary, scorer: ScorerFacts | None = None) -> str:
    """A mean with its interval: `0.82 (0.71 to 0.90)`; the mean alone where there is no interval."""
    if summary.low is None or summary.high is None:
        return number(summary.mean, scorer)
    return f"{number(summary.mean, scorer)} ({number(summary.low, scorer)} to {number(summary.high, scorer)})"


def _head(evaluation: Evaluation, found: Overview) -> str:
    parameters = ", ".join(f"{name} {value}" for name, value in evaluation.parameters.items())
    left_out = f"; {evaluation.left_out} rows left out as unreadable" if evaluation.left_out else ""
    rows = "".join(
        f"<tr><td>{escape(facts.model)}</td><td class=number>{facts.answered}</td>"
        f"<td class=number>{facts.failed}</td><td class=number>{facts.cut}</td></tr>"
        for facts in found.facts
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in evaluation.notes)
    return (
        f"<h1>{escape(evaluation.task)}</h1>"
        f"<p class=soft>{len(evaluation.samples)} samples from {escape(evaluation.source)}{left_out} · "
        f"{escape(parameters)} · {evaluation.created:%Y-%m-%d %H:%M} UTC · evaluation <code>{evaluation.id}</code> · "
        f"content <code>{evaluation.task_hash[:16]}</code></p>{notes}"
        "<div class=wide><table><tr><th>model</th><th>answered</th><th>failed</th><th>cut at max_tokens</th></tr>"
        f"{rows}</table></div>"
        "<p class=soft>Intervals are 95 %, clustered by prompt (or by group). A failed answer has no score: it is no "
        "zero, and it is counted.</p>"
    )


def _scorer(evaluation: Evaluation, found: Overview, scorer: ScorerFacts) -> str:
    rows = [(model, found.of(model, scorer.name)) for model in evaluation.models]
    good = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is good by itself"}
    html = f"<h2>{escape(scorer.name)} <span class=soft>· {good[scorer.better]}</span></h2>"
    html += _plot_table(rows, scorer)
    if not found.categories or all(summary.mean is None for _, summary in rows):
        return html
    parts = "".join(
        f"<h3>{escape(category)}</h3>"
        + _plot_table([(model, found.of(model, scorer.name, category)) for model in evaluation.models], scorer)
        for category in found.categories
    )
    return html + f"<details><summary>{escape(scorer.name)} by category</summary>{parts}</details>"


def _plot_table(rows: Sequence[tuple[str, ScoreSummary]], scorer: ScorerFacts) -> str:
    if all(summary.mean is None for _, summary in rows):
        return "<p class=soft>No sample has anything to score this by.</p>"
    start, end = _range([summary for _, summary in rows], scorer)
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td class=number>{interval(summary, scorer)}</td>"
        f"<td>{line(summary, None, start, end)}</td><td class=number>{summary.n}</td>"
        f"<td class=number>{summary.missing or ''}</td></tr>"
        for name, summary in rows
    )
    return (
        f"<div class=wide><table><tr><th>model</th><th>mean, 95 %</th><th>{axis(start, end)}</th><th>scored</th>"
        f"<th>no score</th></tr>{cells}</table></div>"
    )


def _differences(compared: Diff) -> str:
    html = f"<h2>Differences</h2><p>{escape(compared.words)}</p>"
    groups: dict[tuple[str, str, str], list[Difference]] = {}
    for row in compared.differences:
        if row.summary.mean is not None:
            groups.setdefault((row.model_a, row.model_b, row.scorer), []).append(row)
    for (a, b, name), rows in groups.items():
        # A category that is empty, or rests on too little, stays: it says so in its last column.
        known = [end for row in rows for end in (row.wide.low, row.wide.high, row.summary.mean) if end is not None]
        span = max((abs(end) for end in known), default=0.0) or 1.0
        cells = "".join(
            f"<tr><td>{escape(row.category or 'all')}</td>"
            f"<td class=number>{interval(row.summary, row.facts)}</td>"
            f"<td>{line(row.summary, row.wide, -span, span)}</td><td class=number>{row.summary.n}</td>"
            f"<td class={_tone(row)}>{row.finding}</td></tr>"
            for row in rows
        )
        html += (
            f"<h3>{escape(name)}: {escape(b)} minus {escape(a)}</h3><div class=wide><table><tr><th>category</th>"
            f"<th>difference, 95 %</th><th>{axis(-span, span)}</th><th>pairs</th><th>{escape(b)} is</th></tr>{cells}"
            "</table></div>"
        )
    return html


def _tone(row: Difference) -> str:
    return {"better": "good", "worse": "bad"}.get(row.finding, "soft")


def _regressions(compared: Diff) -> str:
    worse = len(compared.regressions)
    html = f"<h2>Regressions</h2><p>{worse} scores are lower than before, {compared.improvements} are higher.</p>"
    html += "".join(_change(change) for change in compared.regressions[:_SHOWN])
    if worse > _SHOWN:
        html += f"<p class=soft>{worse - _SHOWN} more are in the JSON.</p>"
    return html


def _change(change: Change) -> str:
    question = " ".join(change.sample.question.split())
    short = question if len(question) <= 110 else question[:109] + "…"
    category = f" · {escape(change.sample.sample.category)}" if change.sample.sample.category else ""
    expected = "".join(f"<pre>{escape(text)}</pre>" for text in change.sample.sample.accepted)
    return (
        f"<details><summary>{escape(change.scorer)} {change.score_a:.2f} → {change.score_b:.2f} · {escape(short)} "
        f"<span class=soft>{escape(change.sample.id)}{category}</span></summary>"
        f"<p class=soft>Asked</p><pre>{escape(change.sample.question)}</pre>"
        + (f"<p class=soft>Expected</p>{expected}" if expected else "")
        + f"<div class=sides><div><p class=soft>{escape(change.model_a)}</p><pre>{escape(change.text_a)}</pre></div>"
        f"<div><p class=soft>{escape(change.model_b)}</p><pre>{escape(change.text_b)}</pre></div></div></details>"
    )


def _failures(found: Overview) -> str:
    rows = [
        *((facts.model, said, count) for facts in found.facts for said, count in facts.errors),
        *((f"scorer {name}", said, count) for name, said, count in found.scorer_errors),
    ]
    if not rows:
        return ""
    cells = "".join(f"<tr><td>{escape(who)}</td><td>{escape(said)}</td><td>{n}</td></tr>" for who, said, n in rows)
    return (
        "<h2>What failed</h2><div class=wide><table><tr><th>where</th><th>error</th><th>samples</th></tr>"
        f"{cells}</table></div>"
    )


def _range(rows: Sequence[ScoreSummary], scorer: ScorerFacts) -> tuple[float, float]:
    if scorer.low is not None and scorer.high is not None:
        return scorer.low, scorer.high
    known = [end for row in rows for end in (row.low, row.high, row.mean) if end is not None]
    low, high = min(known), max(known)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
