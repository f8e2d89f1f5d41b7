"""Campaigns as HTML: the list, a campaign's progress, invites with QR codes, and the report."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import segno

from evals.campaigns.campaign import Campaign
from evals.campaigns.invites import Invite
from evals.campaigns.progress import CampaignProgress
from models.database import utcnow
from models.quantities import count_noun
from ui.look.markup import badge, empty_state, facts, heading, notice, table

if TYPE_CHECKING:
    from evals.campaigns.report import CampaignReport
    from evals.ratings.verdict import Verdict

EMPTY = empty_state("No campaigns yet", "Create one below: choose models and questions, and write what you ask raters.")
_STATES = {"draft": "still", "scheduled": "warn", "open": "", "closed": "still"}
EXPORT_FORMS = {
    "csv": "CSV",
    "parquet": "Parquet",
    "datasets": "Hugging Face datasets (.zip)",
    "trl": "preference pairs for TRL",
    "openai": "preference pairs for OpenAI’s DPO",
}
_SKIPS = {
    "not_my_topic": "not the rater’s subject",
    "unclear": "the question is unclear",
    "broken": "something is wrong with an answer",
    "other": "another reason",
}


def campaigns_table(campaigns: Sequence[Campaign]) -> str:
    """All campaigns with their states."""
    if not campaigns:
        return EMPTY
    rows = "".join(
        f"<tr><th scope='row'>{escape(each.title)}<br><small class='faint'>{escape(each.name)}</small></th>"
        f"<td>{state_badge(each)}</td><td class='wrap roomy'>{escape(', '.join(each.models) or 'no models')}</td>"
        f"<td class='num'>{each.prompts}</td><td class='roomy'>{each.created:%Y-%m-%d}</td></tr>"
        for each in campaigns
    )
    head = (
        "<th>Campaign</th><th>State</th><th class='roomy'>Models</th><th>Questions</th><th class='roomy'>Created</th>"
    )
    return table(head, rows)


def state_badge(campaign: Campaign) -> str:
    """The campaign's state in a pill."""
    return badge(campaign.state, _STATES[campaign.state])


def progress_html(progress: CampaignProgress) -> str:
    """A campaign's progress, and what its owner should know: failures, leaks, skips."""
    campaign = progress.campaign
    wanted = f" of {progress.wanted:,}" if progress.wanted is not None else ""
    numbers = [(f"{progress.votes:,}{wanted}", "votes"), (str(progress.voters), "people have voted")]
    if progress.prepared:
        done, all_of = (sum(getattr(each, name) for each in progress.prepared) for name in ("answers", "wanted"))
        numbers.append((f"{done:,} of {all_of:,}", "answers are prepared"))
    if progress.left_share is not None:
        numbers.append((f"{progress.left_share:.0%}", "of votes without a tie chose the left answer; 50 % is balanced"))
    if skipped := sum(progress.skips.values()):
        reasons = ", ".join(f"{_SKIPS.get(reason, reason)}: {n}" for reason, n in progress.skips.items())
        numbers.append((str(skipped), f"skipped ({reasons})"))
    title = f"<div class='verdict'><div><b>{escape(campaign.title)}</b> {state_badge(campaign)}</div>"
    return f"{title}<p>{escape(campaign.question)}</p></div>{facts(numbers)}{_warnings(progress)}{_people(progress)}"


def _warnings(progress: CampaignProgress) -> str:
    lines = []
    job = progress.job
    if job is not None and not job.over:
        lines.append(notice(f"Answers are being prepared: {job.message or 'the worker starts soon'}.", "wait"))
    if job is not None and job.status == "failed":
        lines.append(
            notice(
                f"Preparing the answers failed: {job.error}. Missing answers are requested when raters need them.",
                "bad",
            )
        )
    lines += [notice(each.gap, "warn") for each in progress.prepared if each.gap]
    for each in progress.set_aside:
        if not each.resting:
            continue
        place = " and ".join(name for name in (each.place.model_1, each.place.model_2) if name)
        where = " on one question" if each.place.prompt_id else ""
        days = (each.until - utcnow()).days
        until = "permanently" if days > 365 else f"until {each.until:%H:%M} UTC"
        lines.append(notice(f"{place} is set aside{where} {until}: {each.reason}.", "bad"))
    for model, answers in progress.leaks.items():
        count = count_noun(answers, "answer")
        hidden = "names are hidden" if progress.campaign.on_leak == "mask" else "these pairs are set aside"
        lines.append(notice(f"{count} of {model} contain a model’s name; {hidden}.", "warn"))
    return "".join(lines)


def _people(progress: CampaignProgress) -> str:
    if not progress.raters:
        return ""
    gold = {each.voter: f"{each.right} of {each.votes}" for each in progress.gold}
    rows = "".join(
        f"<tr><th scope='row'>{escape(each.rater.name or 'without a name')}</th>"
        f"<td>{'invited' if each.rater.link == 'invite' else badge('open link', 'warn')}</td>"
        f"<td class='num'>{each.votes}</td><td class='num'>{gold.get(each.rater.voter, '—')}</td></tr>"
        for each in progress.raters
    )
    head = "<th>Person</th><th>Came by</th><th>Votes</th><th>Gold pairs correct</th>"
    return f"<details class='behind'><summary>People ({len(progress.raters)})</summary>{table(head, rows)}</details>"


def report_html(report: "CampaignReport", names: Mapping[str, str], recorded: Sequence[str] = ()) -> str:
    """The verdicts, overall and by criterion, each with its interval and who prefers what.

    Args:
        names: by voter.
        recorded: sentences about recorded models.
    """
    note = "".join(f"<p class='about'>{escape(sentence)}</p>" for sentence in recorded)
    if report.look == "anytime" and report.campaign.state == "open" and not report.campaign.open_ended:
        text = "This campaign is still open, so this is not its final verdict: that one is computed when it closes."
        note += notice(text, "wait")
    parts = [note, *(_verdict_html(verdict, names) for verdict in report.verdicts)]
    for criterion, verdicts in report.criteria.items():
        parts += [heading(criterion), *(_verdict_html(verdict, names) for verdict in verdicts)]
    return "".join(parts)


def _verdict_html(verdict: "Verdict", names: Mapping[str, str]) -> str:
    good = badge("at least as good") if verdict.headline.at_least_as_good else ""
    text = verdict.text
    for number, each in enumerate(verdict.by_voter, 1):
        text = text.replace(each.voter, _person(each.voter, number, names))
    return (
        f"<div class='verdict'><div><b>{escape(verdict.model_a)}</b> against {escape(verdict.model_b)} {good}</div>"
        f"<p>{escape(text)}</p></div>{interval_svg(verdict)}{_scopes(verdict)}{_by_voter(verdict, names)}"
    )


def _scopes(verdict: "Verdict") -> str:
    """The verdict for these people and for people like them, one row each."""
    from evals.reports.rating_tables import scope_cells  # loads scipy.stats: a second of the page's start

    if verdict.win_rate is None:
        return ""
    head, *rows = scope_cells(verdict)
    body = "".join(
        f"<tr><th scope='row'>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return table("".join(f"<th>{escape(cell)}</th>" for cell in head), body)


def _person(voter: str, number: int, names: Mapping[str, str]) -> str:
    """A voter's name, or a number instead of the voter id."""
    return names.get(voter) or f"person {number}"


def interval_svg(verdict: "Verdict") -> str:
    """The win rate with its 95 % interval, on a scale from 0 to 100 % with the even split and the margin."""
    if verdict.win_rate is None:
        return ""
    low, high, rate = (1000 * min(1.0, max(0.0, value)) for value in (verdict.low, verdict.high, verdict.win_rate))
    margin = 1000 * (0.5 - verdict.margin)
    label = (
        f"Win rate of {verdict.model_a}: {verdict.win_rate:.0%}, 95 % interval {verdict.low:.0%} to {verdict.high:.0%}"
    )
    return (
        f"<figure class='interval'><svg viewBox='-20 0 1040 76' role='img' aria-label='{escape(label, quote=True)}'>"
        f"<rect class='allowed' x='{margin:.0f}' y='6' width='{500 - margin:.0f}' height='40'/>"
        "<line class='scale' x1='0' x2='1000' y1='26' y2='26'/><line class='even' x1='500' x2='500' y1='4' y2='48'/>"
        f"<line class='span' x1='{low:.0f}' x2='{high:.0f}' y1='26' y2='26'/>"
        f"<circle class='rate' cx='{rate:.0f}' cy='26' r='11'/>"
        "<text x='0' y='70'>0 %</text><text x='500' y='70' text-anchor='middle'>50 %</text>"
        "<text x='1000' y='70' text-anchor='end'>100 %</text></svg>"
        f"<figcaption>{escape(label)}</figcaption></figure>"
    )


def _by_voter(verdict: "Verdict", names: Mapping[str, str]) -> str:
    if not verdict.by_voter:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(_person(each.voter, number, names))}</th>"
        f"<td>{escape(each.prefers or 'neither')}</td><td class='num'>{each.wins} / {each.ties} / {each.losses}</td>"
        f"<td class='num'>{each.share:.0%}</td></tr>"
        for number, each in enumerate(verdict.by_voter, 1)
    )
    head = f"<th>Person</th><th>Prefers</th><th>{escape(verdict.model_a)} won / tied / lost</th><th>Share of votes</th>"
    return f"<details class='behind'><summary>By person</summary>{table(head, rows)}</details>"


def export_links(address: str = "/campaigns/export") -> str:
    """Links to the votes as files, at the address that exports a campaign or, without one, all campaigns."""
    join = "&amp;" if "?" in address else "?"
    links = (
        f"<a href='{address}{join}as={form}' download data-export='{form}'>{label}</a>"
        for form, label in EXPORT_FORMS.items()
    )
    return f"Votes: {' · '.join(links)}"


def invites_table(invites: Sequence[tuple[Invite, str]]) -> str:
    """The invites with their links."""
    if not invites:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(each.name)}{' (group)' if each.is_group else ''}</th><td>{each.role}</td>"
        f"<td>{_invite_state(each)}</td><td class='wrap'>"
        + (f"<code>{escape(link)}</code> <button class='text' data-parley='copy'>Copy</button>" if each.valid else "—")
        + "</td></tr>"
        for each, link in invites
    )
    return table("<th>For</th><th>Role</th><th>State</th><th>Link</th>", rows)


def _invite_state(invite: Invite) -> str:
    if invite.revoked is not None:
        return badge("revoked", "bad")
    if not invite.valid:
        return badge("expired", "warn")
    return badge("valid") + (f" until {invite.expires:%Y-%m-%d}" if invite.expires else "")


def invite_made(name: str, link: str, qr: str) -> str:
    """A new link with its QR code. `qr` is SVG."""
    return (
        f"<div class='made' role='status'><p>Link for <b>{escape(name)}</b>. Anyone with the link can use it.</p>"
        f"<div><code id='invite-link'>{escape(link)}</code><button data-parley='copy'>Copy</button></div>"
        f"<div class='qr'>{qr}</div></div>"
    )


def qr_svg(link: str) -> str:
    """The link as a QR code in SVG."""
    return segno.make(link, error="m", micro=False).svg_inline(scale=4, border=3, dark="#20262a", light="#ffffff")
