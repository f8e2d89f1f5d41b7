"""A judge's finished report as HTML and as a plot: the verdict first, then the numbers, then row by row."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from evals.judges.human_agreement import HumanAgreement, Rate
from evals.judges.report import JudgedPair, JudgeReport
from evals.judges.report_groups import by_group
from ui.look.markup import badge, facts, heading, notice, table
from ui.look.plots import Outcomes, judge_plot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MAX_ROWS = 100
_CANARIES: Mapping[str, str] = {
    "empty": "Rejects an empty answer",
    "constant": "Rejects one stock answer to every question",
    "injecting": "Rejects an answer that tries to instruct the judge",
    "padded": "Does not prefer an answer padded with repetitions",
    "swapped": "Gives the same verdict when the answers are swapped",
}
_TRUST: Mapping[str, str] = {
    "yes": badge("trust"),
    "no": badge("do not trust", "bad"),
    "unknown": badge("not known", "warn"),
}


def report_html(report: JudgeReport) -> str:
    """The verdict, whether to trust it, and the numbers; the finer numbers are folded away under "Details"."""
    reliable = badge("reliability checks passed") if report.trusted else badge("not reliable", "bad")
    notes = "".join(notice(note, "warn") for note in report.notes)
    return (
        f"<div class='verdict'><div><b>{escape(report.model_b)}</b> against {escape(report.model_a)}, judged by "
        f"{escape(report.judge)} {reliable}</div><p>{escape(report.summary)}</p></div>{notes}{facts(_numbers(report))}"
        f"{_trust(report)}<details class='behind'><summary>Details</summary>"
        f"{_people(report)}{_canaries(report)}{_scores(report)}</details>"
    )


def report_plot(report: JudgeReport) -> "Figure | None":
    """How many pairs each model won, and the win rate with its interval; None if no pair was judged."""
    if report.win_rate is None:
        return None
    return judge_plot(
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
    """Win rates by category, and row by row the question, the verdicts and the judge's reasons."""
    names = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "—"}
    rows = "".join(_row(row, names) for row in report.rows[:_MAX_ROWS])
    more = len(report.rows) - _MAX_ROWS
    rest = f"<p class='about'>{more} more rows are not shown.</p>" if more > 0 else ""
    head = (
        f"<th>Question</th><th>{escape(report.model_a)} first</th><th>{escape(report.model_b)} first</th>"
        "<th>Result</th><th>People</th><th>The judge’s reasons</th>"
    )
    return _groups(report) + heading("All verdicts") + table(head, rows, tall=True) + rest


def _numbers(report: JudgeReport) -> list[tuple[str, str]]:
    numbers = []
    if report.win_rate is not None:
        interval = f"95 % interval {100 * report.low:.0f} to {100 * report.high:.0f} %"
        numbers.append((_share(report.win_rate), f"win rate of {report.model_b}; {interval}"))
    unread = f"unreadable: {report.unparsed}, failed: {report.failed}"
    passed = sum(canary.passed for canary in report.canaries)
    numbers += [
        (str(report.judged), f"pairs judged in both orders; {unread}"),
        (_share(report.flip_rate), "of verdicts changed with the order of the answers"),
        (_share(report.first_rate), "of decisions went to the answer shown first; 50 % is fair"),
        (f"{passed} of {len(report.canaries)}" if report.canaries else "none", "reliability checks passed"),
    ]
    if report.longer:
        people = f"; people: {_share(report.people_longer.value)}" if report.people_longer else ""
        numbers.append((_share(report.longer.value), f"of decisions went to the longer answer{people}"))
    if report.agreement and not report.people:
        numbers.append((_share(report.agreement.with_ties), f"agreement with people, on {report.agreement.n} pairs"))
    if report.powered:
        span = f"{100 * max(0.0, report.powered.low):.0f} to {100 * min(1.0, report.powered.high):.0f} %"
        source = f"estimated from {report.powered.labelled} votes and all verdicts; 95 % interval {span}"
        numbers.append((_share(report.powered.mean), f"win rate of {report.model_b} among people, {source}"))
    return numbers


def _trust(report: JudgeReport) -> str:
    """The sentence about the judge's agreement with people's votes."""
    text = report.trust if report.people else (
        "Nobody has voted on these answers yet, so it is not known whether to trust the judge. People vote at /vote."
    )  # fmt: skip
    return f"{heading('Compared with people’s votes')}<p class='lead'>{escape(text)}</p>"


def _people(report: JudgeReport) -> str:
    if not report.people:
        return ""
    head = "<th>Category</th><th>Trust</th><th>Agrees</th><th>Without ties</th><th>Kappa</th><th>People agree</th>"
    return table(head, "".join(_group(group) for group in report.people))


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
    rows = "".join(
        f"<tr><th scope='row'>{_CANARIES[canary.kind]}</th><td class='num'>{canary.lost} of {canary.asked}</td>"
        f"<td>{'' if canary.passed else badge('failed', 'bad')}</td></tr>"
        for canary in report.canaries
    )
    return heading("Reliability checks") + table("", rows) if rows else ""


def _span(rate: Rate | None) -> str:
    if rate is None:
        return "—"
    return f"{100 * rate.value:.0f} %<br><small>{100 * rate.low:.0f}–{100 * rate.high:.0f}</small>"


def _groups(report: JudgeReport) -> str:
    """Win rates by category and by turn; empty if there is only one group."""
    groups = by_group(report)
    if len(groups) < 2:
        return ""
    head = "<th></th><th>Wins</th><th>Judged</th><th>Order-dependent</th><th>No verdict</th>"
    rows = "".join(
        f"<tr><th scope='row'>{escape(group.name)}</th><td class='num'>{_span(group.rate)}</td>"
        f"<td class='num'>{group.judged}</td><td class='num'>{group.flips or ''}</td>"
        f"<td class='num'>{group.nulls or ''}</td></tr>"
        for group in groups
    )
    return heading(f"How often {report.model_b} wins, by category") + table(head, rows)


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
    rubric = f"Rubric {report.rubric}, version {report.rubric_version}, hash {report.rubric_hash}"
    return f"{heading('Mean scores, 1 to 5')}<p class='about'>{escape(rubric)}</p>{table(f'<th></th>{head}', rows)}"


def _row(row: JudgedPair, names: dict[str | None, str]) -> str:
    flipped = f" {badge('order-dependent', 'warn')}" if row.consistent is False else ""
    return (
        f"<tr><td class='long'>{escape(_short(row.question))}</td><td>{escape(names[row.a_first])}</td>"
        f"<td>{escape(names[row.b_first])}</td><td><b>{escape(names[row.outcome])}</b>{flipped}</td>"
        f"<td>{escape(names[row.people])}</td><td class='long'>{escape(_short(row.null or row.reasons))}</td></tr>"
    )


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f} %"


def _score(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"


def _short(text: str, limit: int = 240) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
