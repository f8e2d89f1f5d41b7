"""A report on training data as a person reads it: the verdict, the numbers, how long examples are, each problem. HTML.

It computes nothing; the report is `train.data.reports`' as JSON, the very one that the gateway and the terminal give.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ui.backend.model_options import notice

_ROWS = 500
_TONES = {"error": "bad", "warning": "warn"}


def report_html(report: Mapping[str, Any]) -> str:
    """The whole report; every word of the data in it is escaped."""
    parts = [_verdict(report), _facts(report), _plots(report), _problems(report)]
    if held := report.get("validation"):
        parts += ["<h3 class='plot-title'>Validation data</h3>", _facts(held), _problems(held)]
    return "".join(parts)


def _verdict(report: Mapping[str, Any]) -> str:
    errors, warnings = report["errors"], report["warnings"]
    if not report["usable"]:
        badge, said = "<span class='badge bad'>cannot be trained on</span>", "Mend what is red first."
    elif errors:
        badge = "<span class='badge bad'>has errors</span>"
        said = "A training would leave the lines with errors out and use the rest."
    elif warnings:
        badge, said = "<span class='badge warn'>usable, with warnings</span>", "Look at the warnings before you train."
    else:
        badge, said = "<span class='badge'>ready</span>", "Nothing was found that would hurt a training."
    known = f", read as {escape(report['format'])}" if report["format"] else ""
    return (
        f"<div class='verdict'><div><b>{escape(report['source'])}</b>{known} {badge}</div><p>{said} "
        "<button type='button' class='text' data-parley='save-report'>Download the report</button></p></div>"
    )


def _facts(report: Mapping[str, Any]) -> str:
    pairs = report["preferences"]
    facts = [
        (f"{pairs or report['examples']:,}", "preference pairs" if pairs else "examples"),
        (f"{report['left_out']:,}", f"left out of {report['lines']:,} lines"),
        (f"{report['errors']:,}", "errors"),
        (f"{report['warnings']:,}", "warnings"),
    ]
    cells = "".join(f"<div class='fact'><b>{number}</b><span>{what}</span></div>" for number, what in facts)
    return f"<div class='facts'>{cells}</div>"


def _plots(report: Mapping[str, Any]) -> str:
    bars = [
        _histogram("Length in characters", report["characters"]),
        _histogram("Answers in a conversation", report["turns"]),
    ]
    return f"<div class='bars-row'>{''.join(bars)}</div>" if any(bars) else ""


def _histogram(title: str, spread: Mapping[str, Any] | None) -> str:
    if not spread:
        return ""
    bins: Sequence[Mapping[str, Any]] = spread["histogram"]
    if len(bins) == 1:
        return ""  # all are alike, and one bar says nothing
    most = max(one["examples"] for one in bins)
    bars = "".join(
        f"<i style='height:{max(100 * one['examples'] / most, 1.5 if one['examples'] else 0):.1f}%' "
        f"title='{_range(one)}: {one['examples']:,}'></i>"
        for one in bins
    )
    return (
        f"<figure class='bars'><figcaption>{title}: {spread['smallest']:,} to {spread['largest']:,}, "
        f"half of them up to {spread['median']:,}</figcaption><div>{bars}</div>"
        f"<footer><span>{bins[0]['low']:,}</span><span>{_range(bins[-1])}</span></footer></figure>"
    )


def _range(one: Mapping[str, Any]) -> str:
    if one["high"] is None:
        return f"{one['low']:,} and more"
    return f"{one['low']:,}" if one["high"] == one["low"] + 1 else f"{one['low']:,} to {one['high'] - 1:,}"


def _problems(report: Mapping[str, Any]) -> str:
    found: Sequence[Mapping[str, Any]] = report["problems"]
    if not found:
        return notice("No problems found.", "good")
    shown = sorted(found, key=lambda one: (one["severity"] != "error", one["line"]))[:_ROWS]
    kinds = "".join(
        f"<span class='badge {_tone(found, code)}'>{escape(code)} {number:,}</span> "
        for code, number in report["codes"].items()
    )
    head = "".join(
        f"<th aria-sort='none'><button type='button' class='sort' data-parley='sort'>{name}</button></th>"
        for name in ("Severity", "Line", "Kind", "What is wrong", "What to do")
    )
    rest = f"<p class='about'>{len(found) - _ROWS:,} more are in the report.</p>" if len(found) > _ROWS else ""
    return (
        f"<p class='kinds'>{kinds}</p><div class='scroll tall'><table class='board problems'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(_row, shown))}</tbody></table></div>{rest}"
    )


def _tone(found: Sequence[Mapping[str, Any]], code: str) -> str:
    return "bad" if any(one["code"] == code and one["severity"] == "error" for one in found) else "warn"


def _row(one: Mapping[str, Any]) -> str:
    line = f"{one['line']:,}" if one["line"] else "all"
    badge = f"<span class='badge {_TONES[one['severity']]}'>{one['severity']}</span>"
    return (
        f"<tr><td data-value='{one['severity']}'>{badge}</td><td class='num' data-value='{one['line']}'>{line}</td>"
        f"<td>{escape(one['code'])}</td><td class='said'>{_words(one['message'])}</td>"
        f"<td class='said'>{_words(one['mend'])}</td></tr>"
    )


def _words(text: str) -> str:
    """Escaped; what stands between backticks is set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
