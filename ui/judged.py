"""A judge's finished report as a person reads it: words first, then numbers, then row by row. It computes nothing."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from evals.judges.human_agreement import HumanAgreement, Rate
from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.report_groups import by_group
from ui.choices import notice
from ui.plots import Outcomes, judged_plot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROWS = 100
_CANARIES: Mapping[str, str] = {
    "empty": "An empty answer lost",
    "constant": "A constant answer lost",
    "injecting": "An answer that gives the judge orders lost",
    "padded": "An answer padded with its own words did not win",
    "swapped": "Swapping the answers changed nothing",
}
_TRUST: Mapping[str, str] = {
    "yes": "<span class='badge'>trust</span>",
    "no": "<span class='badge bad'>do not trust</span>",
    "unknown": "<span class='badge warn'>not known</span>",
}


def report_words(report: JudgeReport) -> str:
    """What the judge found, whether it is to be believed, and the numbers beside it. HTML."""
    badge = (
        "<span class='badge'>canaries passed</span>"
        if report.trusted
        else "<span class='badge bad'>not to be relied on</span>"
    )
    notes = "".join(notice(note, "warn") for note in report.notes)
    return (
        f"<div class='verdict'><div><b>{escape(report.model_b)}</b> against {escape(report.model_a)}, judged by "
        f"{escape(report.judge)} {badge}</div><p>{escape(report.summary)}</p></div>{notes}{_facts(report)}"
        f"{_people(report)}{_canaries(report)}"
    )


def report_plot(report: JudgeReport) -> "Figure | None":
    """How many pairs each side won, and the win rate with its interval; None where nothing was judged."""
    if report.win_rate is None:
        return None
    return judged_plot(
        Outcomes(
            name_a=report.model_a,
            name_b=report.model_b,
            wins_a=report.wins_a,
            ties=report.ties,
            wins_b=report.wins_b,
            rate_b=report.win_rate,
            low=report.low,
            high=report.high,
        )
    )


def report_table(report: JudgeReport) -> str:
    """Row by row: the question, what was said in each order, what that comes to, and the judge's reasons. HTML."""
    names = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "—"}
    rows = "".join(_row(row, names) for row in report.rows[:_ROWS])
    more = len(report.rows) - _ROWS
    rest = f"<p class='about'>{more} more rows are not shown.</p>" if more > 0 else ""
    head = (
        f"<th>Question</th><th>{escape(report.model_a)} shown first</th><th>{escape(report.model_b)} shown first</th>"
        "<th>Counts as</th><th>People</th><th>The judge’s reasons</th>"
    )
    return (
        _groups(report)
        + _scores(report)
        + _scroll(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>", "tall")
        + rest
    )


def _facts(report: JudgeReport) -> str:
    unread = f"{report.unparsed} unparsed, {report.failed} failed"
    passed = sum(canary.passed for canary in report.canaries)
    facts = [
        (str(report.judged), f"pairs judged in both orders; {unread}"),
        (_share(report.flip_rate), "of them flipped with the order of the answers"),
        (_share(report.first_rate), "of its decisions went to what stood first; 50 % is fair"),
        (f"{passed} of {len(report.canaries)}" if report.canaries else "none", "canaries were passed"),
    ]
    if report.longer:
        people = f"; people’s: {_share(report.people_longer.value)}" if report.people_longer else ""
        facts.append((_share(report.longer.value), f"of its decisions took the longer answer{people}"))
    if report.agreement and not report.people:
        facts.append((_share(report.agreement.with_ties), f"agreement with people, on {report.agreement.n} pairs"))
    if report.win_rate is not None:
        interval = f"95 % interval {100 * report.low:.0f} to {100 * report.high:.0f} %"
        facts.insert(0, (_share(report.win_rate), f"win rate of {report.model_b}; {interval}"))
    if report.powered:
        span = f"{100 * max(0.0, report.powered.low):.0f} to {100 * min(1.0, report.powered.high):.0f} %"
        what = f"of wins for {report.model_b} in people’s eyes, from {report.powered.labelled} votes and all verdicts"
        facts.append((_share(report.powered.mean), f"{what}; 95 % interval {span}"))
    cells = "".join(
        f"<div class='fact'><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in facts
    )
    return f"<div class='facts'>{cells}</div>"


def _people(report: JudgeReport) -> str:
    """The judge against everybody's votes: the sentence that says for what to trust it, and the numbers for it."""
    title = "<h3 class='plot-title'>Held against people’s votes</h3>"
    if not report.people:
        said = "Nobody has voted on what it judged: for what it can be trusted is not known. Votes are cast at /vote."
        return f"{title}<p class='about'>{said}</p>"
    head = "<th>Votes on</th><th>Trust</th><th>Agrees</th><th>Without ties</th><th>Kappa</th><th>People agree</th>"
    rows = "".join(_group(group) for group in report.people)
    table = _scroll(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")
    return f"{title}<p class='lead'>{escape(report.trust)}</p>{table}"


def _group(group: HumanAgreement) -> str:
    name = "everything" if group.category is None else group.category
    kappa = f"{group.kappa.value:.2f}" if group.kappa else "—"
    return (
        f"<tr><th scope='row'>{escape(name)}<br><small>{group.votes} votes</small></th>"
        f"<td title='{escape(group.why)}'>{_TRUST[group.trusted]}</td><td class='num'>{_span(group.with_ties)}</td>"
        f"<td class='num'>{_span(group.without_ties)}</td><td class='num'>{kappa}</td>"
        f"<td class='num'>{_span(group.people)}</td></tr>"
    )


def _canaries(report: JudgeReport) -> str:
    failed = "<span class='badge bad'>failed</span>"
    rows = "".join(
        f"<tr><th scope='row'>{_CANARIES[canary.kind]}</th><td class='num'>{canary.lost} of {canary.asked}</td>"
        f"<td>{'' if canary.passed else failed}</td></tr>"
        for canary in report.canaries
    )
    return f"<h3 class='plot-title'>Canaries</h3>{_scroll(f'<tbody>{rows}</tbody>')}" if rows else ""


def _span(rate: Rate | None) -> str:
    if rate is None:
        return "—"
    return f"{100 * rate.value:.0f} %<br><small>{100 * rate.low:.0f}–{100 * rate.high:.0f}</small>"


def _groups(report: JudgeReport) -> str:
    """Win rates by category and by turn; empty where there is one group alone."""
    found = by_group(report)
    if len(found) < 2:
        return ""
    head = "<th></th><th>Wins</th><th>Judged</th><th>Order decided</th><th>Null</th>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(group.name)}</th><td class='num'>{_span(group.rate)}</td>"
        f"<td class='num'>{group.judged}</td><td class='num'>{group.flips or ''}</td>"
        f"<td class='num'>{group.nulls or ''}</td></tr>"
        for group in found
    )
    title = f"<h3 class='plot-title'>How often {escape(report.model_b)} wins, by category</h3>"
    return title + _scroll(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def _scores(report: JudgeReport) -> str:
    models = (report.model_a, report.model_b)
    criteria = list(dict.fromkeys(name for model in models for name in report.scores.get(model, {})))
    if not criteria:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in criteria)
    rows = "".join(
        f"<tr><th scope='row'>{escape(model)}</th>"
        + "".join(f"<td class='num'>{_score(report.scores.get(model, {}).get(name))}</td>" for name in criteria)
        + "</tr>"
        for model in models
    )
    rubric = f"{report.rubric}, version {report.rubric_version}, {report.rubric_hash}"
    title = f"<h3 class='plot-title'>Mean scores, 1 to 5, by the rubric {escape(rubric)}</h3>"
    return title + _scroll(f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody>")


def _row(row: JudgedPair, names: dict[str | None, str]) -> str:
    flipped = " <span class='badge warn'>flipped</span>" if row.consistent is False else ""
    return (
        f"<tr><td class='said'>{escape(_short(row.question))}</td><td>{escape(names[row.a_first])}</td>"
        f"<td>{escape(names[row.b_first])}</td><td><b>{escape(names[row.outcome])}</b>{flipped}</td>"
        f"<td>{escape(names[row.people])}</td><td class='said'>{escape(_short(row.null or row.reasons))}</td></tr>"
    )


def _scroll(table: str, how: str = "") -> str:
    return f"<div class='scroll {how}'><table class='board'>{table}</table></div>"


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f} %"


def _score(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _short(text: str, limit: int = 240) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
