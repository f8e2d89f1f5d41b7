"""Stored answers as HTML: what becomes of them, a page of them as a table, and one of them in full."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from models.chat.personal_data import mask_values
from models.completions.feedback import StoredFeedback
from models.quantities import count_noun
from train.data.stored_rows import RowKind, RowOptions, correction, counted_feedback
from train.data.stored_selection import RowCounts, SelectedAnswer
from ui.look.markup import badge, facts, heading, notice, table

NOUNS: Mapping[RowKind, str] = {"conversations": "conversation", "pairs": "preference pair", "prompts": "prompt"}
_SHORT = 140  # characters of a question or an answer in the table
_LONGEST = 20_000  # characters of a text in the full view


def counts_html(counts: RowCounts, options: RowOptions) -> str:
    """The numbers, and why answers are left out."""
    left_out = sum(counts.left_out.values())
    numbers = [
        (f"{counts.read:,}", "stored answers match"),
        (f"{counts.rows:,}", f"{NOUNS[options.kind]}s to train on" if options.kind != "prompts" else "prompts"),
        (f"{left_out:,}", "left out"),
    ]
    if options.kind != "prompts":
        numbers.append((f"{counts.corrected:,}", "with a correction"))
    if options.mask:
        numbers.append((f"{counts.masked:,}", "personal values replaced"))
    reasons = "".join(f"{badge(f'{reason}: {count:,}', 'warn')} " for reason, count in counts.left_out.most_common())
    why = f"<p class='kinds'><span class='about'>Left out:</span> {reasons}</p>" if reasons else ""
    return facts(numbers) + why


def answers_table(answers: Sequence[SelectedAnswer], options: RowOptions) -> str:
    """One page of answers; page.js opens one in full."""
    if not answers:
        return notice("No stored answer matches. Change the filters.", "warn")
    head = (
        "<th>Question</th><th class='roomy'>Answer</th><th class='roomy'>Feedback</th><th class='roomy'>Stored</th>"
        "<th>Result</th>"
    )
    return table(head, "".join(_row(each, options) for each in answers), classes="stored")


def answer_html(answer: SelectedAnswer, options: RowOptions) -> str:
    """One answer in full: the conversation, the answer, the correction, the feedback and the metadata."""
    completion = answer.completion
    messages = completion.request.get("messages")
    parts = [_turn(message, options) for message in messages] if isinstance(messages, list) else []
    parts.append(_turn(_message(answer), options, "given"))
    if (corrected := correction(counted_feedback(answer.feedback, options))) is not None:
        parts.append(_turn({"role": "correction", "content": corrected}, options, "given"))
    pairs = "".join(f" · {escape(name)}={_shown(str(value), options)}" for name, value in completion.metadata.items())
    about = (
        f"<p class='about'>{escape(completion.id)} · {escape(completion.model)} · "
        f"{completion.created:%Y-%m-%d %H:%M} UTC{pairs}</p>"
    )
    parts += [_feedback(answer, options), about]
    return f"{heading('One answer in full')}<div class='stored-full'>{''.join(parts)}</div>"


def _row(answer: SelectedAnswer, options: RowOptions) -> str:
    completion = answer.completion
    messages = completion.request.get("messages")
    question = _text(messages[-1]) if isinstance(messages, list) and messages else ""
    result = badge(NOUNS[options.kind]) if not answer.reason else badge(answer.reason, "warn")
    return (
        f"<tr><td class='long'><button type='button' class='text' data-parley='stored-row' "
        f"data-id='{escape(completion.id, quote=True)}'>{_short(question, options) or 'no text'}</button></td>"
        f"<td class='long roomy'>{_short(_text(_message(answer)), options)}</td>"
        f"<td class='roomy wrap'>{_badges(answer.feedback, options)}</td>"
        f"<td class='num roomy'>{escape(completion.model)}<br><span class='faint'>{completion.created:%Y-%m-%d %H:%M}"
        f"</span></td><td class='wrap'>{result}</td></tr>"
    )


def _badges(entries: Sequence[StoredFeedback], options: RowOptions) -> str:
    newest = {each.feedback.name: each.feedback.value for each in entries if each.feedback.value is not None}
    shown = [
        badge(f"{name} {_value(value, options)}", "bad" if value is False else "") for name, value in newest.items()
    ]
    if correction(entries) is not None:
        shown.append(badge("correction"))
    return " ".join(shown) or "—"


def _feedback(answer: SelectedAnswer, options: RowOptions) -> str:
    if not answer.feedback:
        return "<p class='about'>No feedback.</p>"
    rows = "".join(
        f"<tr><td>{escape(given.name)}</td><td class='wrap'>{escape(_value(given.value, options))}</td>"
        f"<td class='wrap'>{given.source_kind} {_shown(given.source_id, options)}</td>"
        f"<td class='long'>{_shown(given.comment or '', options)}</td></tr>"
        for given in (stored.feedback for stored in answer.feedback)
    )
    return table("<th>Feedback</th><th>Value</th><th>From</th><th>Comment</th>", rows, classes="stored")


def _turn(message: Any, options: RowOptions, kind: str = "") -> str:
    role = str(message.get("role", "")) if isinstance(message, Mapping) else ""
    return f"<div class='turn {kind}'><b>{escape(role)}</b><p>{_shown(_text(message), options) or 'no text'}</p></div>"


def _message(answer: SelectedAnswer) -> Any:
    choices = answer.completion.answer.get("choices")
    return choices[0].get("message", {}) if isinstance(choices, list) and choices else {}


def _text(message: Any) -> str:
    """A message's text; what is no text, such as tool calls, as JSON."""
    if not isinstance(message, Mapping):
        return str(message)
    content = message.get("content") or message.get("tool_calls") or message.get("refusal") or ""
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        return "\n".join(map(str, texts)) if all(texts) else json.dumps(content, ensure_ascii=False)
    return str(content)


def _shown(text: str, options: RowOptions) -> str:
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return escape(mask_values(cut)[0] if options.mask else cut)


def _short(text: str, options: RowOptions) -> str:
    # Masked before it is cut, so that no part of a number is left at the end.
    line = " ".join((mask_values(text[:_LONGEST])[0] if options.mask else text[:_LONGEST]).split())
    return escape(line if len(line) <= _SHORT else line[: _SHORT - 1] + "…")


def _value(value: Any, options: RowOptions) -> str:
    if value is None:
        return "—"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return (mask_values(text)[0] if options.mask and isinstance(value, str) else text)[:200]


def saved_html(kind: RowKind, filename: str, file_id: str, counts: RowCounts) -> str:
    """What was stored, and what to do with it."""
    rows = count_noun(counts.rows, NOUNS[kind])
    if kind == "prompts":
        action, name = "stored-campaign", "Create a campaign with them"
    else:
        action, name = "stored-train", "Train on this file"
    note = " Choose the method DPO." if kind == "pairs" else ""
    return (
        f"<div class='notice good' role='status'><i></i><span>{escape(filename)} has {rows}. "
        f"<button type='button' class='text' data-parley='{action}'>{name}</button> · "
        f"<a href='/data/files?id={escape(file_id, quote=True)}' download>Download</a>{note}</span></div>"
    )
