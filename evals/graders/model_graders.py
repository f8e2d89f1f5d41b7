"""`score_model` and `label_model`: a served judge whose output is constrained to JSON with a number or a label.

The judge gets the grader's messages, with a sentence about the format at the end of the system message. Its reasoning
comes first, so that the result can depend on it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.graders.grade import Case, Grade, GradingContext, ModelUsage, in_order, render_cases
from evals.graders.templates import render_messages
from evals.tasks.answer_cache import Outcome
from models.chat.judge_prompt import REASONS, response_format

_RANGE = (0.0, 1.0)
_PARAMETERS = ("temperature", "top_p", "seed", "reasoning_effort", "max_completion_tokens")


@dataclass(frozen=True)
class _OutputFormat:
    """The format of a judge's output: how it is requested, and how it is read."""

    field: str
    schema: Mapping[str, Any]
    instruction: str
    read: Callable[[Any], tuple[float, bool] | None]


async def grade_by_model(grader: Mapping[str, Any], cases: Sequence[Case], context: GradingContext) -> list[Grade]:
    """Each case's grade by the judge of a `score_model` or `label_model` grader."""
    output = _score_format(grader) if grader["type"] == "score_model" else _label_format(grader)

    def converse(case: Case) -> list[dict[str, Any]]:
        return _with_instruction(render_messages(grader["input"], case.values), output.instruction)

    conversations, failed = render_cases(cases, converse)
    parameters = _parameters(grader) | {"response_format": response_format("grade", dict(output.schema))}
    outcomes = await context.ask(grader["model"], list(conversations.values()), parameters) if conversations else []
    graded = {
        place: _grade(grader["model"], output, messages, outcome)
        for (place, messages), outcome in zip(conversations.items(), outcomes, strict=True)
    }
    return in_order(len(cases), failed, graded)


def score_range(grader: Mapping[str, Any]) -> tuple[float, float]:
    """The range of a score_model grader's scores, by default 0 to 1."""
    low, high = grader.get("range") or _RANGE
    return float(low), float(high)


def judge_format(grader: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The sentence about the format of a judge's output, and the JSON schema of the output."""
    output = _score_format(grader) if grader["type"] == "score_model" else _label_format(grader)
    return output.instruction, dict(output.schema)


def _parameters(grader: Mapping[str, Any]) -> dict[str, Any]:
    given = grader.get("sampling_params") or {}
    parameters = {name: given[name] for name in _PARAMETERS if given.get(name) is not None}
    if given.get("max_completions_tokens") is not None:
        parameters.setdefault("max_completion_tokens", given["max_completions_tokens"])
    # So that verdicts are reproducible, unless the grader sets a temperature.
    return {"temperature": 0.0} | parameters


def _score_format(grader: Mapping[str, Any]) -> _OutputFormat:
    low, high = score_range(grader)
    threshold = grader.get("pass_threshold")
    passing = (low + high) / 2 if threshold is None else float(threshold)

    def read(value: Any) -> tuple[float, bool] | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return None
        return float(value), value >= passing

    return _OutputFormat(
        "result",
        _schema("result", {"type": "number"}),
        f'Answer with JSON: "reasoning" in one or two sentences, then "result", a number from {low:g} to {high:g}.',
        read,
    )


def _label_format(grader: Mapping[str, Any]) -> _OutputFormat:
    labels, passing = list(grader["labels"]), set(grader["passing_labels"])

    def read(value: Any) -> tuple[float, bool] | None:
        return (float(value in passing), value in passing) if value in labels else None

    return _OutputFormat(
        "label",
        _schema("label", {"type": "string", "enum": labels}),
        f'Answer with JSON: "reasoning" in one or two sentences, then "label", one of {json.dumps(labels)}.',
        read,
    )


def _schema(field: str, kind: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"reasoning": {"type": "string", "maxLength": REASONS}, field: dict(kind)},
        "required": ["reasoning", field],
        "additionalProperties": False,
    }


def _with_instruction(messages: Sequence[Mapping[str, Any]], instruction: str) -> list[dict[str, Any]]:
    first, *others = map(dict, messages)
    if first["role"] == "system" and isinstance(first["content"], str):
        return [first | {"content": f"{first['content']}\n\n{instruction}"}, *others]
    return [{"role": "system", "content": instruction}, first, *others]


def _grade(model: str, output: _OutputFormat, messages: Sequence[Mapping[str, Any]], outcome: Outcome) -> Grade:
    answer = outcome.answer
    if answer is None:
        return Grade(error=f"The judge {model} did not answer: {outcome.error}", kind="model_grader_server_error")
    usage = ModelUsage(1, answer.prompt_tokens or 0, answer.completion_tokens or 0)
    sample = {
        "input": list(messages),
        "output": [{"role": "assistant", "content": answer.text}],
        "model": model,
        "finish_reason": answer.finish_reason or "stop",
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "cached_tokens": 0,
        },
        "error": None,
    }
    try:
        result = output.read(json.loads(answer.text)[output.field])
    except (ValueError, LookupError, TypeError, RecursionError):
        result = None
    if result is None:
        error = f"The judge {model} returned no valid {output.field}: {answer.text[:80]!r}"
        return Grade(error=error, kind="model_grader_parse_error", sample=sample, usage={model: usage})
    return Grade(*result, sample=sample, usage={model: usage})
