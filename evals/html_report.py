"""An evaluation as one HTML file: tables, intervals drawn as SVG, regressions with both answers. No network, no script.

Everything that a model or a person wrote is escaped, and the page's own policy forbids it to load anything.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evals.evaluations import Evaluation, ScorerFacts
from evals.scoring import ScoreSummary
from evals.summaries import Change, Diff, Difference, Overview
from models.errors import Invalid, NoSpace
from models.folders import atomic_write

_SHOWN = 200  # regressions in the file; the rest are counted
_WIDTH, _ROW, _PAD = 320, 22, 10  # of a plot, in pixels

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1d22; --soft: #5d636f; --line: #d9dce2; --paper: #fff; --mark: #2f5fd0;
  --good: #1d7a45; --bad: #b3372f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #a0a6b2; --line: #3a3f49; --paper: #15171b;
  --mark: #86a8ff; --good: #62c48c; --bad: #f0837a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 64px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 20px 0 4px; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle;
  font-variant-numeric: tabular-nums; } th { font-weight: 600; color: var(--soft); white-space: nowrap; }
td.number { white-space: nowrap; } td svg { display: block; }
details { border-bottom: 1px solid var(--line); padding: 8px 0; } summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; margin: 8px 0; }
@media (max-width: 640px) { .sides { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; margin: 4px 0;
  padding: 8px 10px; border: 1px solid var(--line); border-radius: 6px; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; } svg line { stroke: var(--mark); stroke-width: 2; }
svg line.axis { stroke: var(--line); stroke-width: 1; } svg circle { fill: var(--mark); }
svg line.thin { stroke-width: 1; } code { overflow-wrap: anywhere; }
"""


def write_report(path: Path, evaluation: Evaluation, found: Overview, compared: Diff | None) -> None:
    """Writes the report as one file.

    Raises:
        Invalid: the file cannot be written.
    """
    try:
        atomic_write(path, report_html(evaluation, found, compared).encode("utf-8", "replace"))
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="html") from error


def report_html(evaluation: Evaluation, found: Overview, compared: Diff | None = None) -> str:
    """The report's text: means by scorer and category, and where `compared` is given, differences and regressions."""
    parts = [_head(evaluation, found)]
    if compared and compared.differences:
        parts += [_differences(compared), _regressions(compared)]
    parts += [_scorer(evaluation, found, scorer) for scorer in evaluation.scorers]
    parts.append(_failures(found))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(evaluation.task)}: {escape(', '.join(evaluation.models))}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


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
        f"<td>{_line(summary, None, start, end)}</td><td class=number>{summary.n}</td>"
        f"<td class=number>{summary.missing or ''}</td></tr>"
        for name, summary in rows
    )
    return (
        f"<div class=wide><table><tr><th>model</th><th>mean, 95 %</th><th>{_axis(start, end)}</th><th>scored</th>"
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
            f"<td>{_line(row.summary, row.wide, -span, span)}</td><td class=number>{row.summary.n}</td>"
            f"<td class={_tone(row)}>{row.finding}</td></tr>"
            for row in rows
        )
        html += (
            f"<h3>{escape(name)}: {escape(b)} minus {escape(a)}</h3><div class=wide><table><tr><th>category</th>"
            f"<th>difference, 95 %</th><th>{_axis(-span, span)}</th><th>pairs</th><th>{escape(b)} is</th></tr>{cells}"
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


def _axis(start: float, end: float) -> str:
    return (
        f'<svg width="{_WIDTH}" height="14" role="img" aria-label="from {start:.3g} to {end:.3g}">'
        f'<text x="{_PAD}" y="11">{start:.3g}</text>'
        f'<text x="{_WIDTH - _PAD}" y="11" text-anchor="end">{end:.3g}</text></svg>'
    )


def _line(summary: ScoreSummary, wide: ScoreSummary | None, start: float, end: float) -> str:
    """An interval as SVG on an axis from `start` to `end`; the wide one thin behind it, and a line at zero."""

    def at(value: float) -> float:
        share = (value - start) / (end - start) if end > start else 0.5
        return round(_PAD + min(max(share, 0.0), 1.0) * (_WIDTH - 2 * _PAD), 1)

    middle = _ROW / 2
    drawn = f'<line class="axis" x1="{_PAD}" x2="{_WIDTH - _PAD}" y1="{middle}" y2="{middle}"/>'
    if start < 0 < end:
        drawn += f'<line class="axis" x1="{at(0)}" x2="{at(0)}" y1="2" y2="{_ROW - 2}"/>'
    for row, kind in ((wide, "thin"), (summary, "")):
        if row and row.low is not None and row.high is not None:
            drawn += f'<line class="{kind}" x1="{at(row.low)}" x2="{at(row.high)}" y1="{middle}" y2="{middle}"/>'
            drawn += "".join(
                f'<line class="{kind}" x1="{at(edge)}" x2="{at(edge)}" y1="{middle - 4}" y2="{middle + 4}"/>'
                for edge in (row.low, row.high)
            )
    if summary.mean is not None:
        drawn += f'<circle cx="{at(summary.mean)}" cy="{middle}" r="4"/>'
    label = interval(summary)
    return f'<svg width="{_WIDTH}" height="{_ROW}" role="img" aria-label="{label}">{drawn}</svg>'
