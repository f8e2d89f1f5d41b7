"""Keys and their use as a person reads them: two tables, a key shown once, a plot. HTML; it decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import TYPE_CHECKING

from models.keys import KeyInfo
from models.usage import Sums, Usage
from ui.look.plots import Bars, stacked_plot

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST = 6  # colours that can be told apart


def keys_table(keys: Sequence[KeyInfo], used: Mapping[str, Sums], now: datetime) -> str:
    """Every key, those in force first; what each may do, and what it has used today."""
    if not keys:
        return ""
    ordered = sorted(keys, key=lambda key: (key.state(now) != "in force", key.name))
    rows = "".join(_row(key, used.get(key.id, Sums()), now) for key in ordered)
    head = "<th>Key</th><th>May use</th><th>Limits</th><th class='roomy'>Used today</th>"
    return _framed(f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>")


def made_html(name: str, role: str, secret: str) -> str:
    """A new key, this once."""
    then = "<a href='/login'>Sign in with it</a> when this page asks for it." if role == "owner" else ""
    return (
        f"<div class='made' role='status'><p><b>{escape(name)}</b>: copy the key now, it is shown only here and only "
        f"once. {then}</p><div><code>{escape(secret)}</code><button type='button' class='restart' "
        "data-parley='copy'>Copy</button></div></div>"
    )


def usage_table(rows: Sequence[Usage]) -> str:
    """The sums by key and model, the largest first."""
    if not rows:
        return (
            "<div class='quiet'><b>Nothing was used</b><span>A running gateway writes down each request, about a "
            "second after its end.</span></div>"
        )
    together: dict[tuple[str, str], Sums] = {}
    for row in rows:
        together.setdefault((row.key, row.model), Sums()).add(row.sums)
    body = "".join(
        f"<tr><th scope='row'>{_who(key)}<br><span class='faint'>{escape(model)}</span></th>"
        f"<td class='num'>{sums.requests:,}</td>"
        f"<td class='num roomy'>{sums.failed:,}</td><td class='num'>{sums.prompt_tokens:,}</td>"
        f"<td class='num'>{sums.completion_tokens:,}</td><td class='num roomy'>{_money(sums.usd)}</td></tr>"
        for (key, model), sums in sorted(together.items(), key=lambda item: (-item[1].tokens, item[0]))
    )
    head = (
        "<th>Key, model</th><th>Requests</th><th class='roomy'>Failed</th><th>Tokens in</th><th>Tokens out</th>"
        "<th class='roomy'>US$</th>"
    )
    return _framed(f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", "tall")


def usage_plot(rows: Sequence[Usage], since: date, until: date, by: str) -> "Figure":
    """Tokens a day, a colour for each key or model (`by`); beyond the largest few the rest together."""
    whole: dict[str, int] = {}
    for row in rows:
        name = getattr(row, by)
        whole[name] = whole.get(name, 0) + row.sums.tokens
    largest = sorted(whole, key=lambda name: (-whole[name], name))[:_MOST]
    days = [since + timedelta(days=number) for number in range((until - since).days + 1)]
    heights = {name: dict.fromkeys(days, 0) for name in largest}
    others = dict.fromkeys(days, 0)
    for row in rows:
        place = heights.get(getattr(row, by), others)
        place[row.day] = place.get(row.day, 0) + row.sums.tokens
    bars = [Bars(name or "no key", tuple(heights[name].values())) for name in largest]
    if len(whole) > _MOST:
        bars.append(Bars("all others", tuple(others.values())))
    return stacked_plot(days, bars, "Tokens a day")


def _row(key: KeyInfo, used: Sums, now: datetime) -> str:
    state = key.state(now)
    badge = "" if state == "in force" else " warn" if state == "expired" else " bad"
    until = f"until {key.expires:%Y-%m-%d}" if state == "in force" and key.expires else state
    models = "all models" if key.models is None else ", ".join(key.models)
    today = f"{used.requests:,} requests<br>{used.tokens:,} tokens" if used.requests else "—"
    if used.usd:
        today += f"<br>{_money(used.usd)}"
    owner = "<span class='badge'>owner</span> " if key.role == "owner" else ""
    return (
        f"<tr><th scope='row'>{escape(key.name)}<br>{owner}<span class='badge{badge}'>{until}</span></th>"
        f"<td class='said'>{escape(models)}</td>"
        f"<td class='num limits'>{'<br>'.join(key.limits.describe()) or 'none'}</td>"
        f"<td class='num roomy'>{today}</td></tr>"
    )


def _who(key: str) -> str:
    return escape(key) if key else "<span class='faint'>no key</span>"


def _money(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}" if usd else "—"


def _framed(table: str, how: str = "") -> str:
    return f"<div class='scroll {how}'><table class='board keyed'>{table}</table></div>"
