"""A grader's input and output: cases, grades, and the models and limits that it may use."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evals.graders.templates import TemplateError
from evals.scorers.reference_similarity import Embed
from evals.tasks.answer_cache import Outcome
from models.errors import ParleyError

_Rendered = TypeVar("_Rendered")
# OpenAI's kinds of errors, as `graders/run` reports them.
ERROR_KINDS = (
    "formula_parse_error", "sample_parse_error", "truncated_observation_error", "unresponsive_reward_error",
    "invalid_variable_error", "other_error", "python_grader_server_error", "python_grader_runtime_error",
    "model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One item with the answer to grade, as the templates' namespaces `item` and `sample`."""

    item: Mapping[str, Any]
    sample: Mapping[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """The namespaces by name."""
        return {"item": self.item, "sample": self.sample}


@dataclass(frozen=True)
class ModelUsage:
    """The calls of one model and their tokens."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "ModelUsage") -> "ModelUsage":
        return ModelUsage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Grade:
    """A score and whether it passes; or an `error`, whose `kind` is one of `ERROR_KINDS`, with the score 0.

    `sample` is a judge's request and answer. `parts` are the scores of a multi grader's graders, by name. `usage` is by
    model.
    """

    score: float = 0.0
    passed: bool = False
    error: str | None = None
    kind: str = "other_error"
    sample: Mapping[str, Any] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, ModelUsage] = field(default_factory=dict)


AskModel = Callable[[str, Sequence[Sequence[Mapping[str, Any]]], Mapping[str, Any]], Awaitable[Sequence[Outcome]]]
"""Asks a model: (name, conversations, OpenAI's options) → an answer or an error for each conversation."""


@dataclass(frozen=True)
class GradingContext:
    """`ask` asks judges; `embed` embeds texts for `cosine`; `unsandboxed` is the owner's setting for Python graders.

    `tick` is called about once a second while a program runs; an exception that it raises ends the grading.
    """

    ask: AskModel
    embed: Embed
    unsandboxed: bool = False
    tick: Callable[[], None] = lambda: None


def failed_grade(error: ParleyError) -> Grade:
    """The grade for an error of a case."""
    return Grade(error=str(error), kind=error.code if error.code in ERROR_KINDS else "other_error")


def render_cases(
    cases: Sequence[Case], render_case: Callable[[Case], _Rendered]
) -> tuple[dict[int, _Rendered], dict[int, Grade]]:
    """Place → rendered templates, and place → error for cases in which a variable has no value."""
    rendered: dict[int, _Rendered] = {}
    failed: dict[int, Grade] = {}
    for place, case in enumerate(cases):
        try:
            rendered[place] = render_case(case)
        except TemplateError as error:
            failed[place] = failed_grade(error)
    return rendered, failed


def in_order(count: int, *grades: Mapping[int, Grade]) -> list[Grade]:
    """Grades by place as a list."""
    merged = {place: grade for group in grades for place, grade in group.items()}
    return [merged[place] for place in range(count)]
