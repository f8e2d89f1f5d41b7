"""One stored chat completion as a training row: a conversation, a preference pair, or a prompt for a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from models.chat.messages import Message, as_dicts
from models.completions.feedback import SourceKind, StoredFeedback
from models.completions.stored_completions import StoredCompletion

RowKind = Literal["conversations", "pairs", "prompts"]
# The finish reasons of answers that are not truncated.
_WHOLE = ("stop", "tool_calls", "function_call")
_MESSAGE_FIELDS = ("role", "content", "tool_calls")


@dataclass(frozen=True)
class RowOptions:
    """Which completions become rows, and how.

    Attributes:
        kind: conversations; preference pairs from corrections; or prompts for a comparison, without the answers.
        min_feedback: name of the feedback → minimum of the mean of its values (true is 1, false 0).
        feedback_from: only feedback from people, models or programs counts; None for all.
        corrected: only answers with a correction.
        mask: replace personal data and secrets with placeholders.
        near_duplicates: leave out rows that are nearly the same as an earlier one.
        limit: the maximum number of rows.
    """

    kind: RowKind = "conversations"
    min_feedback: Mapping[str, float] = field(default_factory=dict)
    feedback_from: SourceKind | None = None
    corrected: bool = False
    mask: bool = False
    near_duplicates: bool = False
    limit: int | None = None


def row_of(
    completion: StoredCompletion, entries: Sequence[StoredFeedback], options: RowOptions
) -> tuple[dict[str, Any] | None, str]:
    """The row, before masking, or None and why there is none. `entries`: all feedback on the answer, oldest first."""
    entries = counted_feedback(entries, options)
    if reason := _reason_to_leave_out(entries, options):
        return None, reason
    messages = completion.request.get("messages")
    if not isinstance(messages, list) or not messages:
        return None, "no messages"
    if options.kind == "prompts":
        return _prompt(messages)
    choices = completion.answer.get("choices")
    if not choices:
        return None, "no chat completion"
    choice = choices[0]
    answer = {name: choice["message"][name] for name in _MESSAGE_FIELDS if choice["message"].get(name) is not None}
    corrected = correction(entries)
    tools = {"tools": completion.request["tools"]} if completion.request.get("tools") else {}
    if options.kind == "pairs":
        if corrected is None:
            return None, "no correction"
        if corrected == answer.get("content"):
            return None, "a correction that changes nothing"
        preferred = {"role": "assistant", "content": corrected}
        prompt = {"messages": messages, **tools}
        return {"input": prompt, "preferred_output": [preferred], "non_preferred_output": [answer]}, ""
    if corrected is not None:
        return {"messages": [*messages, {"role": "assistant", "content": corrected}], **tools}, ""
    if choice.get("finish_reason") not in _WHOLE:
        return None, "a truncated answer"
    if not answer.get("content") and not answer.get("tool_calls"):
        return None, "an empty answer"
    return {"messages": [*messages, answer], **tools}, ""


def counted_feedback(entries: Sequence[StoredFeedback], options: RowOptions) -> list[StoredFeedback]:
    """The feedback from the sources that count."""
    return [each for each in entries if options.feedback_from in (None, each.feedback.source_kind)]


def correction(entries: Sequence[StoredFeedback]) -> str | None:
    """The newest correction."""
    return next((each.feedback.correction for each in reversed(entries) if each.feedback.correction), None)


def _reason_to_leave_out(entries: Sequence[StoredFeedback], options: RowOptions) -> str:
    """Why the feedback excludes an answer; empty if it does not."""
    for name, least in options.min_feedback.items():
        mean = _mean(entries, name)
        if mean is None:
            return f"no feedback named {name}"
        if mean < least:
            return f"{name} below {least:g}"
    return "no correction" if options.corrected and correction(entries) is None else ""


def _prompt(messages: Sequence[Any]) -> tuple[dict[str, Any] | None, str]:
    roles = {"developer": "system"}
    try:
        plain = [
            Message.model_validate({**message, "role": roles.get(message["role"], message["role"])})
            for message in messages
        ]
    except (ValidationError, TypeError, KeyError):
        return None, "a prompt with images or tool calls"
    if plain[-1].role != "user" or not plain[-1].content.strip():
        return None, "a prompt that does not end with a question"
    return {"messages": as_dicts(plain)}, ""


def _mean(entries: Sequence[StoredFeedback], name: str) -> float | None:
    """The mean of the feedback with a name; from each source with an id, only the newest value counts."""
    newest = {
        feedback.source_id or stored.id: feedback.value
        for stored in entries
        if (feedback := stored.feedback).name == name
    }
    numbers = [float(value) for value in newest.values() if isinstance(value, bool | int | float)]
    return sum(numbers) / len(numbers) if numbers else None
