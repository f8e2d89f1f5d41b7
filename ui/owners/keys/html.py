"""API keys and their usage as HTML tables and a plot; and a new key, which is shown once."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING

from models.keys import KeyInfo
from models.quantities import count_noun
from models.usage import Sums, Usage
from ui.look.markup import badge, empty_state, table
from ui.look.plots import Bars, stacked_plot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MAX_SERIES = 6  # colours that are easy to tell apart


def keys_table(keys: Sequence[KeyInfo], used: Mapping[str, Sums], now: datetime) -> str:
    """Every key, the valid ones first: what it may use, its limits and its usage today."""
    if not keys:
        return ""
    ordered = sorted(keys, key=lambda key: (key.state(now) != "in force", key.name))
    rows = "".join(_row(key, used.get(key.id, Sums()), now) for key in ordered)
    head = "<th>Key</th><th>Models</th><th>Limits</th><th class='roomy'>Used today</th>"
    return table(head, rows, classes="keyed")


def new_key_html(name: str, role: str, secret: str) -> str:
    """A new key with its secret, which is shown only here."""
    sign_in = "<a href='/login'>Sign in with it</a> when this page asks for a key." if role == "owner" else ""
    return (
        f"<div class='made' role='status'><p><b>{escape(name)}</b>: copy this key now. It is not shown "
        f"again. {sign_in}</p><div><code>{escape(secret)}</code><button type='button' class='restart' "
        "data-parley='copy'>Copy</button></div></div>"
    )


def usage_table(rows: Sequence[Usage]) -> str:
    """Usage by key and model, the largest first."""
    if not rows:
        return empty_state("No usage in this period", "Each request appears here about a second after it ends.")
    totals: dict[tuple[str, str], Sums] = {}
    for row in rows:
        totals.setdefault((row.key, row.model), Sums()).add(row.sums)
    body = "".join(
        f"<tr><th scope='row'>{_name(key)}<br><span class='faint'>{escape(model)}</span></th>"
        f"<td class='num'>{sums.requests:,}</td>"
        f"<td class='num roomy'>{sums.failed:,}</td><td class='num'>{sums.prompt_tokens:,}</td>"
        f"<td class='num'>{sums.completion_tokens:,}</td><td class='num roomy'>{_money(sums.usd)}</td></tr>"
        for (key, model), sums in sorted(totals.items(), key=lambda item: (-item[1].tokens, item[0]))
    )
    head = (
        "<th>Key, model</th><th>Requests</th><th class='roomy'>Failed</th><th>Tokens in</th><th>Tokens out</th>"
        "<th class='roomy'>US$</th>"
    )
    return table(head, body, classes="keyed", tall=True)


def usage_plot(rows: Sequence[Usage], since: date, until: date, by: str) -> "Figure":
    """Tokens a day by key or model (`by`): a series for each of the largest, and one for all others."""
    totals_by_name: dict[str, int] = {}
    for row in rows:
        name = getattr(row, by)
        totals_by_name[name] = totals_by_name.get(name, 0) + row.sums.tokens
    largest = sorted(totals_by_name, key=lambda name: (-totals_by_name[name], name))[:_MAX_SERIES]
    days = [since + timedelta(days=number) for number in range((until - since).days + 1)]
    heights = {name: dict.fromkeys(days, 0) for name in largest}
    others = dict.fromkeys(days, 0)
    for row in rows:
        series = heights.get(getattr(row, by), others)
        series[row.day] = series.get(row.day, 0) + row.sums.tokens
    bars = [Bars(name or "no key", tuple(heights[name].values())) for name in largest]
    if len(totals_by_name) > _MAX_SERIES:
        bars.append(Bars("all others", tuple(others.values())))
    return stacked_plot(days, bars, "Tokens a day")


def _row(key: KeyInfo, used: Sums, now: datetime) -> str:
    state = key.state(now)
    tone = "" if state == "in force" else "warn" if state == "expired" else "bad"
    label = "active" if state == "in force" else state
    until = f"until {key.expires:%Y-%m-%d}" if state == "in force" and key.expires else label
    models = "all models" if key.models is None else ", ".join(key.models)
    today = f"{count_noun(used.requests, 'request')}<br>{count_noun(used.tokens, 'token')}" if used.requests else "—"
    if used.usd:
        today += f"<br>{_money(used.usd)}"
    owner = f"{badge('owner')} " if key.role == "owner" else ""
    return (
        f"<tr><th scope='row'>{escape(key.name)}<br>{owner}{badge(until, tone)}</th>"
        f"<td class='long'>{escape(models)}</td>"
        f"<td class='num limits'>{'<br>'.join(key.limits.describe()) or 'no limits'}</td>"
        f"<td class='num roomy'>{today}</td></tr>"
    )


def _name(key: str) -> str:
    return escape(key) if key else "<span class='faint'>no key</span>"


def _money(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}" if usd else "—"
