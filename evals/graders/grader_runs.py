"""`graders/run`: runs one grader on one answer."""

import time
from collections.abc import Mapping
from typing import Any

from evals.graders.grade import ERROR_KINDS, Case, Grade, GradingContext, ModelUsage
from evals.graders.grading import grade_all, models_of
from evals.graders.templates import sample_values


async def run_grader(
    grader: Mapping[str, Any], model_sample: str, item: Mapping[str, Any] | None, context: GradingContext
) -> dict[str, Any]:
    """The grader's reward for an answer, with its errors, as OpenAI's object.

    Raises:
        Invalid: Python graders cannot run here.
    """
    began = time.perf_counter()
    message = {"role": "assistant", "content": model_sample}
    sample = sample_values(model_sample, choices=[{"index": 0, "message": message}], output_tools=[])
    (grade,) = await grade_all(grader, [Case(item or {}, sample)], context)
    models = models_of(grader)
    return {
        "reward": grade.score,
        "sub_rewards": dict(grade.parts),
        "metadata": {
            "name": grader["name"],
            "type": grader["type"],
            "errors": _errors(grade),
            "execution_time": round(time.perf_counter() - began, 6),
            "scores": dict(grade.parts) or {grader["name"]: grade.score},
            "token_usage": sum(_tokens(usage) for usage in grade.usage.values()) if grade.usage else None,
            "sampled_model_name": models[0] if len(models) == 1 else None,
        },
        "model_grader_token_usage_per_model": {
            model: {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": _tokens(usage),
            }
            for model, usage in grade.usage.items()
        },
    }


def _tokens(usage: ModelUsage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _errors(grade: Grade) -> dict[str, Any]:
    kind = grade.kind if grade.error else None
    errors: dict[str, Any] = {name: name == kind for name in ERROR_KINDS}
    return errors | {
        "model_grader_server_error_details": grade.error if kind == "model_grader_server_error" else None,
        "python_grader_runtime_error_details": grade.error if kind == "python_grader_runtime_error" else None,
        "python_grader_server_error_type": "sandbox" if kind == "python_grader_server_error" else None,
    }
