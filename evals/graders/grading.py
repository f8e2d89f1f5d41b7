"""Grades many cases with one grader of any type. A case that cannot be graded gets an error; the others are graded."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evals.graders.formulas import check_formula, evaluate_formula
from evals.graders.grade import Case, Grade, GradingContext, ModelUsage, in_order, render_cases
from evals.graders.model_graders import grade_by_model
from evals.graders.sandbox import Program, SandboxResult, check_sandbox, run_program
from evals.graders.shapes import parts_of
from evals.graders.templates import check_variables, content_texts, render
from evals.graders.text_metrics import text_similarity
from evals.scorers.reference_similarity import embedding_similarity
from evals.scorers.sample import Sample
from models.errors import Invalid, ParleyError

EMBEDDER = "text-embedding-3-large"  # the model behind `cosine` at OpenAI; here a model or alias of that name
_THRESHOLD = 0.5  # the default pass_threshold

_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


def check_grader(grader: Mapping[str, Any], unsandboxed: bool, param: str = "grader") -> None:
    """Checks what the request's schema does not: variables, the source of a program, the formula, and the sandbox.

    Raises:
        Invalid: with OpenAI's error kind as its code.
    """
    match grader["type"]:
        case "multi":
            parts = parts_of(dict(grader))
            for name, part in parts.items():
                check_grader(part, unsandboxed, f"{param}.graders.{name}")
            check_formula(grader["calculate_output"], set(parts))
        case "python":
            check_sandbox(unsandboxed)
            _check_source(grader["source"], f"{param}.source")
        case "score_model" | "label_model":
            for message in grader["input"]:
                for text in content_texts(message["content"]):
                    check_variables(text, f"{param}.input")
        case _:
            for name in ("input", "reference"):
                check_variables(grader[name], f"{param}.{name}")


def models_of(grader: Mapping[str, Any]) -> list[str]:
    """The models that a grader calls."""
    if grader["type"] == "multi":
        return [model for part in parts_of(dict(grader)).values() for model in models_of(part)]
    if grader["type"] == "text_similarity" and grader["evaluation_metric"] == "cosine":
        return [EMBEDDER]
    return [grader["model"]] if "model" in grader else []


async def grade_all(grader: Mapping[str, Any], cases: Sequence[Case], context: GradingContext) -> list[Grade]:
    """The grade of each case, in order.

    Raises:
        Invalid: Python graders cannot run here.
    """
    match grader["type"]:
        case "multi":
            return await _grade_multi(grader, cases, context)
        case "score_model" | "label_model":
            return await grade_by_model(grader, cases, context)
        case "python":
            return await _grade_by_program(grader, cases, context)
    return await asyncio.to_thread(_grade_texts, grader, cases, context)


def _grade_texts(grader: Mapping[str, Any], cases: Sequence[Case], context: GradingContext) -> list[Grade]:
    """By `string_check` or `text_similarity`."""
    threshold = _threshold(grader)

    def pair(case: Case) -> tuple[str, str]:
        return render(grader["input"], case.values), render(grader["reference"], case.values)

    def grade(pairs: Sequence[tuple[str, str]]) -> list[Grade]:
        if grader["type"] == "string_check":
            check = _CHECKS[grader["operation"]]
            return [Grade(float(passed), passed) for passed in (check(*texts) for texts in pairs)]
        metric = grader["evaluation_metric"]
        try:
            scores = _cosines(pairs, context) if metric == "cosine" else [text_similarity(metric, *p) for p in pairs]
        except ParleyError as error:
            return [Grade(error=f"{EMBEDDER}: {error}", kind="model_grader_server_error")] * len(pairs)
        return [Grade(score, score >= threshold) for score in scores]

    rendered, failed = render_cases(cases, pair)
    return in_order(len(cases), failed, dict(zip(rendered, grade(list(rendered.values())), strict=True)))


def _cosines(pairs: Sequence[tuple[str, str]], context: GradingContext) -> list[float]:
    samples = [Sample(expected=reference) for _, reference in pairs]
    scores = embedding_similarity(context.embed)(samples, [text for text, _ in pairs]) if pairs else []
    return [max(0.0, score or 0.0) for score in scores]


async def _grade_by_program(grader: Mapping[str, Any], cases: Sequence[Case], context: GradingContext) -> list[Grade]:
    threshold = _threshold(grader)
    values = [{"sample": dict(case.sample), "item": dict(case.item)} for case in cases]
    program = Program(grader["source"], context.unsandboxed, tick=context.tick)
    results = await run_program(program, values)
    return [_program_grade(result, threshold) for result in results]


def _program_grade(result: SandboxResult, threshold: float) -> Grade:
    if result.score is None:
        kind = "python_grader_runtime_error" if result.runtime else "python_grader_server_error"
        return Grade(error=result.error or "The grader returned nothing.", kind=kind)
    return Grade(result.score, result.score >= threshold)


async def _grade_multi(grader: Mapping[str, Any], cases: Sequence[Case], context: GradingContext) -> list[Grade]:
    parts = parts_of(dict(grader))
    grades = {name: await grade_all(part, cases, context) for name, part in parts.items()}
    return [
        _combine(grader["calculate_output"], {name: of_part[place] for name, of_part in grades.items()})
        for place in range(len(cases))
    ]


def _combine(formula: str, parts: Mapping[str, Grade]) -> Grade:
    scores = {name: grade.score for name, grade in parts.items()}
    usage = add_usage(parts.values())
    if broken := next(((name, grade) for name, grade in parts.items() if grade.error), None):
        return Grade(error=f"{broken[0]}: {broken[1].error}", kind=broken[1].kind, parts=scores, usage=usage)
    try:
        score = evaluate_formula(formula, scores)
    except Invalid as error:
        return Grade(error=str(error), kind="formula_parse_error", parts=scores, usage=usage)
    return Grade(score, score >= _THRESHOLD, parts=scores, usage=usage)


def add_usage(grades: Iterable[Grade]) -> dict[str, ModelUsage]:
    """The usage of several grades together, by model."""
    total: dict[str, ModelUsage] = {}
    for grade in grades:
        for model, usage in grade.usage.items():
            total[model] = total.get(model, ModelUsage()) + usage
    return total


def _threshold(grader: Mapping[str, Any]) -> float:
    threshold = grader.get("pass_threshold")
    return _THRESHOLD if threshold is None else float(threshold)


def _check_source(source: str, param: str) -> None:
    import ast

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Invalid(
            f"The source is not valid Python: {error}.", param=param, code="python_grader_runtime_error"
        ) from error
    names = Counter(getattr(node, "name", None) for node in tree.body if isinstance(node, ast.FunctionDef))
    if not names["grade"]:
        raise Invalid(
            "The source does not define grade(sample, item): add this function.",
            param=param,
            code="python_grader_runtime_error",
        )
