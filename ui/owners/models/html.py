"""The models and their engines as a person reads them: one table with a row each. HTML; it decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from serve.launcher.status import duration, gib

_TONES = {"ready": "", "starting": " warn", "failed": " bad", "stopped": " still"}
_KINDS = {"base": "base", "merged": "merged", "adapter": "adapter", "hosted": "hosted"}


def models_table(models: Sequence[Mapping[str, Any]], *, running: bool) -> str:
    """Every model of the status report; an adapter stands below its base. Addresses are nobody's business here."""
    if not models:
        return (
            "<div class='quiet'><b>No model yet</b><span>Add a hosted one below, train one, or register weights with "
            "<code>parley models add</code>.</span></div>"
        )
    rows = "".join(_row(one, running=running) for one in _in_order(models))
    head = "<th>Model</th><th>State</th><th class='roomy'>Since</th><th class='roomy'>Memory</th>"
    table = f"<table class='board keyed engines'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _in_order(models: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Engines with what hangs on them, then hosted models."""
    own = [one for one in models if one["kind"] in ("base", "merged")]
    names = {one["id"] for one in own}
    found: list[Mapping[str, Any]] = []
    for one in own:
        found += [one, *[other for other in models if other["kind"] == "adapter" and other["base"] == one["id"]]]
    found += [other for other in models if other["kind"] == "adapter" and other["base"] not in names]
    return found + [one for one in models if one["kind"] == "hosted"]


def _row(one: Mapping[str, Any], *, running: bool) -> str:
    hosted, hangs = one["kind"] == "hosted", one["kind"] == "adapter"
    state = "hosted" if hosted else one["state"] if running else "stopped"
    pinned = "<span class='badge'>pinned</span> " if one["pinned"] else ""
    below = f"on {one['base']}" if one["base"] else one.get("upstream") or ""
    candidate = "<span class='badge warn'>candidate</span> " if one.get("registered") == "candidate" else ""
    about = f"{pinned}{candidate}<span class='faint'>{_KINDS[one['kind']]} {escape(below)}</span>"
    badge = f"<span class='badge{_TONES.get(state, ' still')}'>{state}</span>"
    message = f"<p>{escape(one['message'])}</p>" if one["message"] and running else ""
    since = duration(datetime.fromisoformat(one["since"])) if one["since"] and running else ""
    return (
        f"<tr><th scope='row'{' class=hangs' if hangs else ''}>{escape(one['id'])}<br>{about}</th>"
        f"<td class='said'>{badge}{message}{_log(one.get('log_lines') or ())}</td>"
        f"<td class='num roomy'>{since or '—'}</td><td class='num roomy'>{gib(one['memory_bytes']) or '—'}</td></tr>"
    )


def _log(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    text = escape("\n".join(lines))
    return (
        f"<details open class='behind'><summary>The log’s last lines</summary><pre class='log'>{text}</pre></details>"
    )
