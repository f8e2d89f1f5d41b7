"""A report on training data as HTML: the verdict, the numbers, the lengths of examples, and each problem.

The report is the JSON of `train.data.reports`, the same that the gateway and the command line return.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from models.quantities import count_noun
from ui.look.markup import badge, code_spans, facts, heading, notice, table

_MAX_ROWS = 500
_WAYS = {
    "own tokenizer": "by the model’s own tokenizer", "tiktoken": "by tiktoken", "estimate": "(an estimate)",
}  # fmt: skip
_TONES = {"error": "bad", "warning": "warn"}


def report_html(report: Mapping[str, Any]) -> str:
    """The whole report. Everything that comes from the data is escaped."""
    parts = [_verdict(report), _facts(report), tokens_html(report.get("tokens")), _plots(report), _problems(report)]
    if validation := report.get("validation"):
        parts += [heading("Validation data"), _facts(validation), _problems(validation)]
    return "".join(parts)


def _verdict(report: Mapping[str, Any]) -> str:
    errors, warnings = report["errors"], report["warnings"]
    if not report["usable"]:
        verdict, advice = badge("not usable for training", "bad"), "Fix the errors before you train."
    elif errors:
        verdict, advice = badge("has errors", "bad"), "A training skips the lines with errors and uses the rest."
    elif warnings:
        verdict, advice = badge("usable, with warnings", "warn"), "Check the warnings before you train."
    else:
        verdict, advice = badge("ready"), "The file is ready for training."
    train = (
        "<button type='button' class='text' data-parley='train-file'>Train on this file</button> · "
        if report["usable"]
        else ""
    )
    format_note = f", read as {escape(report['format'])}" if report["format"] else ""
    return (
        f"<div class='verdict'><div><b>{escape(report['source'])}</b>{format_note} {verdict}</div><p>{advice} {train}"
        "<button type='button' class='text' data-parley='save-report'>Download the report</button></p></div>"
    )


def _facts(report: Mapping[str, Any]) -> str:
    pairs = report["preferences"]
    examples = "labelled answers" if report.get("labels") else "examples"
    numbers = [
        (f"{pairs or report['examples']:,}", "preference pairs" if pairs else examples),
        (f"{report['left_out']:,}", f"skipped, of {count_noun(report['lines'], 'line')}"),
        (f"{report['errors']:,}", "errors"),
        (f"{report['warnings']:,}", "warnings"),
    ]
    return facts(numbers)


def tokens_html(tokens: Mapping[str, Any] | None) -> str:
    """The number of tokens and how they were counted, as one line; empty without a count."""
    if not tokens:
        return ""
    way = _WAYS[tokens["way"]]
    spread = tokens["per_example"]
    return (
        f"<p class='about tokens'><b>{'about ' if tokens['estimate'] else ''}{tokens['tokens']:,} tokens</b> {way}, "
        f"{tokens['learnt_tokens']:,} of them in answers that are learnt; {spread['smallest']:,} to "
        f"{spread['largest']:,} for each example. <span>{escape(_sentence(tokens['how']))}</span></p>"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _plots(report: Mapping[str, Any]) -> str:
    bars = [
        _histogram("Length in characters", report["characters"]),
        _histogram("Answers per conversation", report["turns"]),
    ]
    return f"<div class='bars-row'>{''.join(bars)}</div>" if any(bars) else ""


def _histogram(title: str, spread: Mapping[str, Any] | None) -> str:
    if not spread:
        return ""
    bins: Sequence[Mapping[str, Any]] = spread["histogram"]
    if len(bins) == 1:
        return ""  # a single bar shows nothing
    tallest = max(column["examples"] for column in bins)
    bars = "".join(
        f"<i style='height:{max(100 * column['examples'] / tallest, 1.5 if column['examples'] else 0):.1f}%' "
        f"title='{_range(column)}: {column['examples']:,}'></i>"
        for column in bins
    )
    return (
        f"<figure class='bars'><figcaption>{title}: {spread['smallest']:,} to {spread['largest']:,}, "
        f"median {spread['median']:,}</figcaption><div>{bars}</div>"
        f"<footer><span>{bins[0]['low']:,}</span><span>{_range(bins[-1])}</span></footer></figure>"
    )


def _range(column: Mapping[str, Any]) -> str:
    low, high = column["low"], column["high"]
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if high == low + 1 else f"{low:,} to {high - 1:,}"


def _problems(report: Mapping[str, Any]) -> str:
    problems: Sequence[Mapping[str, Any]] = report["problems"]
    if not problems:
        return notice("No problems found.", "good")
    shown = sorted(problems, key=lambda problem: (problem["severity"] != "error", problem["line"]))[:_MAX_ROWS]
    kinds = "".join(
        f"{badge(f'{code} {number:,}', _tone(problems, code))} " for code, number in report["codes"].items()
    )
    head = "".join(
        f"<th aria-sort='none'><button type='button' class='sort' data-parley='sort'>{name}</button></th>"
        for name in ("Severity", "Line", "Kind", "Problem", "Fix")
    )
    more = len(problems) - _MAX_ROWS
    rest = f"<p class='about'>The downloaded report has {more:,} more.</p>" if more > 0 else ""
    rows = "".join(map(_row, shown))
    return f"<p class='kinds'>{kinds}</p>{table(head, rows, classes='problems', tall=True)}{rest}"


def _tone(problems: Sequence[Mapping[str, Any]], code: str) -> str:
    is_error = any(problem["code"] == code and problem["severity"] == "error" for problem in problems)
    return "bad" if is_error else "warn"


def _row(problem: Mapping[str, Any]) -> str:
    line, severity = problem["line"], problem["severity"]
    return (
        f"<tr><td data-value='{severity}'>{badge(severity, _TONES[severity])}</td>"
        f"<td class='num' data-value='{line}'>{f'{line:,}' if line else 'all'}</td><td>{escape(problem['code'])}</td>"
        f"<td class='long'>{code_spans(problem['message'])}</td>"
        f"<td class='long'>{code_spans(problem['mend'])}</td></tr>"
    )
