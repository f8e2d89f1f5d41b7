"""The models and their engines as an HTML table with a row for each model."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from models.registry.alias_weights import describe_weights
from serve.launcher.status import duration, gib
from ui.look.markup import badge, empty_state, table

_TONES = {"ready": "", "starting": "warn", "failed": "bad", "stopped": "still"}


def models_table(models: Sequence[Mapping[str, Any]], *, running: bool) -> str:
    """Every model of the status report, adapters below their base. Engines' addresses are left out."""
    if not models:
        return empty_state(
            "No models yet",
            "Add a hosted model below, train one, or register weights with <code>parley models add</code>.",
        )
    rows = "".join(_row(model, running=running) for model in _ordered(models))
    head = "<th>Model</th><th>State</th><th class='roomy'>Since</th><th class='roomy'>Memory</th>"
    return table(head, rows, classes="keyed engines")


def aliases_html(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Each alias with its model, or with each of its models' shares; empty if there is no alias."""
    parts = [
        f"<b>{escape(alias)}</b> → {escape(describe_weights(weights) if len(weights) > 1 else next(iter(weights)))}"
        for alias, weights in shares.items()
    ]
    return f"<p class='about'>Aliases: {' · '.join(parts)}</p>" if parts else ""


def _ordered(models: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each engine followed by its adapters, then adapters without an engine, then hosted models."""
    engines = [model for model in models if model["kind"] in ("base", "merged")]
    adapters = [model for model in models if model["kind"] == "adapter"]
    ids = {model["id"] for model in engines}
    ordered: list[Mapping[str, Any]] = []
    for engine in engines:
        ordered += [engine, *[adapter for adapter in adapters if adapter["base"] == engine["id"]]]
    ordered += [adapter for adapter in adapters if adapter["base"] not in ids]
    return ordered + [model for model in models if model["kind"] == "hosted"]


def _row(model: Mapping[str, Any], *, running: bool) -> str:
    indent = " class=hangs" if model["kind"] == "adapter" else ""
    state = "hosted" if model["kind"] == "hosted" else model["state"] if running else "stopped"
    pinned = f"{badge('pinned')} " if model["pinned"] else ""
    candidate = f"{badge('candidate', 'warn')} " if model.get("registered") == "candidate" else ""
    origin = f"on {model['base']}" if model["base"] else model.get("upstream") or ""
    about = f"{pinned}{candidate}<span class='faint'>{escape(model['kind'])} {escape(origin)}</span>"
    ends = ": ".join(filter(None, (model.get("shutdown"), model.get("recorded"))))
    several = len(model.get("replicas", ())) > 1
    about += f" <span class='faint'>· {len(model['replicas'])} replicas</span>" if several else ""
    about += f"<br><span class='faint'>{escape(ends)}</span>" if ends else ""
    explained = running and model["message"] and model["message"] != state  # "starting" needs no second "starting"
    message = f"<p>{escape(model['message'])}</p>" if explained else ""
    since = duration(datetime.fromisoformat(model["since"])) if model["since"] and running else ""
    return (
        f"<tr><th scope='row'{indent}>{escape(model['id'])}<br>{about}</th>"
        f"<td class='long'>{badge(state, _TONES.get(state, 'still'))}{message}{_log(model.get('log_lines') or ())}</td>"
        f"<td class='num roomy'>{since or '—'}</td><td class='num roomy'>{gib(model['memory_bytes']) or '—'}</td></tr>"
    )


def _log(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    text = escape("\n".join(lines))
    return (
        f"<details open class='behind'><summary>Last lines of the log</summary><pre class='log'>{text}</pre></details>"
    )
