"""promptfoo's assertions as graders, one at a time. Each that has no counterpart is refused with the reason."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evals.exchange.folder import NotMapped
from evals.exchange.nunjucks import to_item_template, variables
from evals.exchange.rubric_prompts import closed_question, factuality, rubric

OUTPUT = "{{sample.output_text}}"
COMPUTED = (
    "equals", "contains", "icontains", "contains-any", "contains-all", "icontains-any", "icontains-all", "starts-with",
    "regex", "levenshtein", "word-count", "finish-reason", "is-json", "contains-json",
)  # fmt: skip
_CHECKS = {"equals": "eq", "not-equals": "ne", "contains": "like", "icontains": "ilike"}
# promptfoo's type → the metric and the default threshold.
_METRICS = {
    "rouge-n": ("rouge_1", 0.75), "bleu": ("bleu", 0.5), "gleu": ("gleu", 0.5), "meteor": ("meteor", 0.5),
    "similar": ("cosine", 0.75), "similar:cosine": ("cosine", 0.75),
}  # fmt: skip
_JUDGED = ("llm-rubric", "model-graded-closedqa", "model-graded-factuality", "factuality", "g-eval")
_REASONS = {
    "javascript": "JavaScript is not run here: write a python assertion",
    "ruby": "Ruby is not run here: write a python assertion",
    "cost": "a grader does not see what an answer costs",
    "latency": "a grader does not see how long an answer took",
    "webhook": "a grader cannot call other servers",
    "human": "people's ratings are not a grader: use a campaign",
    "select-best": "it compares several answers: use `parley judge` or a campaign",
    "max-score": "it compares several answers",
}
_ASSERTION_LINE = re.compile(r'^ASSERTION = json\.loads\((".*")\)$', re.MULTILINE)
KNOWN_TYPES = {
    *COMPUTED,
    *_METRICS,
    *_JUDGED,
    *_REASONS,
    "python",
    "is-xml",
    "is-sql",
    "is-html",
    "is-refusal",
    "moderation",
}
_KEYS = {"type", "value", "threshold", "weight", "metric", "provider", "rubricPrompt", "config", "assert", "applies"}
PYTHON_ADAPTER = '''

def grade(sample, item):
    """The score of promptfoo's assertion above, 0 if it does not pass, 1 if it does not belong to the item."""
    if not item.get(APPLIES, True):
        return 1.0
    result = get_assert(sample["output_text"], {"vars": item, "prompt": ""})
    if isinstance(result, dict):
        score = float(result.get("score", bool(result.get("pass"))))
        return score if result.get("pass", score > 0) else 0.0
    return float(result)
'''
_ABOVE_ZERO = 1e-9  # the threshold of a Python assertion that has none


def to_grader(assertion: Mapping[str, Any], name: str, judge: str | None) -> dict[str, Any]:
    """An assertion as a grader, with variables of the item in its value.

    Args:
        assertion: its value has variables, and no files. judge: the model for rubrics without a provider.

    Raises:
        NotMapped: it has no counterpart.
    """
    kind = assertion["type"]
    if unknown := sorted(set(assertion) - _KEYS):
        raise NotMapped(f"the field {unknown[0]} is not supported")
    base = kind.removeprefix("not-")
    if kind in _CHECKS and isinstance(assertion.get("value"), str) and "applies" not in assertion:
        grader = {"type": "string_check", "operation": _CHECKS[kind], "input": OUTPUT}
        return grader | {"name": name, "reference": to_item_template(assertion["value"])}
    if kind in _METRICS and "applies" not in assertion:
        return _similarity(assertion, name)
    if base in _JUDGED and "applies" not in assertion:
        return _judged(assertion, name, judge)
    if kind == "python":
        return _python(assertion, name)
    check_computed(assertion)
    threshold = assertion.get("threshold") if kind == "assert-set" else None
    return {
        "type": "python",
        "name": name,
        "source": assertion_source(assertion),
        "pass_threshold": 0.5 if threshold is None else float(threshold),
    }


def check_computed(assertion: Mapping[str, Any]) -> None:
    """Checks that an assertion can be computed by `assertion_program`.

    Raises:
        NotMapped: it cannot.
    """
    kind = assertion["type"]
    base = kind.removeprefix("not-")
    value = assertion.get("value")
    if kind == "assert-set":
        for part in assertion["assert"]:
            check_computed(part)
        return
    if base not in COMPUTED:
        raise NotMapped(_REASONS.get(base, "there is no such grader here"))
    if base not in ("is-json", "contains-json") and value in (None, "", []):
        raise NotMapped("it has no value")
    if base == "regex" and isinstance(value, str) and not variables(value):
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise NotMapped(f"Python does not read this regular expression ({error})") from error
    if base == "word-count" and not variables(str(value) if not isinstance(value, dict) else ""):
        _check_count(value)
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and base != "regex":
            variables(text)


def assertion_source(assertion: Mapping[str, Any]) -> str:
    """The source of a Python grader that computes an assertion."""
    own = {key: value for key, value in assertion.items() if key != "metric"}  # the grader's name
    text = json.dumps(json.dumps(own, sort_keys=True))
    return (
        f"{_program()}\n\nASSERTION = json.loads({text})\n\n\n"
        "def grade(sample, item):\n    return grade_assertion(ASSERTION, sample, item)\n"
    )


@cache
def _program() -> str:
    return Path(__file__).with_name("assertion_program.py").read_text("utf-8")


def assertion_of(source: str) -> dict[str, Any] | None:
    """The assertion in a source that `assertion_source` wrote; None for any other source."""
    match = _ASSERTION_LINE.search(source)
    try:
        assertion = json.loads(json.loads(match[1])) if match else None
    except ValueError:
        return None
    return assertion if isinstance(assertion, dict) and assertion_source(assertion) == source else None


def _check_count(value: Any) -> None:
    counts = [value.get("min", 0), value.get("max", 0)] if isinstance(value, dict) else [value]
    try:
        _ = [float(count) for count in counts]
    except (TypeError, ValueError) as error:
        raise NotMapped("its value is not a number, or an object with min and max") from error


def _similarity(assertion: Mapping[str, Any], name: str) -> dict[str, Any]:
    metric, threshold = _METRICS[assertion["type"]]
    value = assertion.get("value")
    if not isinstance(value, str):
        raise NotMapped("only one reference text is supported")
    return {
        "type": "text_similarity",
        "name": name,
        "evaluation_metric": metric,
        "input": OUTPUT,
        "reference": to_item_template(value),
        "pass_threshold": _threshold(assertion, threshold),
    }


def _threshold(assertion: Mapping[str, Any], default: float) -> float:
    threshold = assertion.get("threshold")
    return default if threshold is None else float(threshold)


def _judged(assertion: Mapping[str, Any], name: str, judge: str | None) -> dict[str, Any]:
    model = _judge_model(assertion) or judge
    if model is None:
        raise NotMapped("it names no judge: set its provider, or import with --judge MODEL")
    base = assertion["type"].removeprefix("not-")
    negated = assertion["type"] != base
    if "rubricPrompt" in assertion and base == "llm-rubric":
        return rubric(assertion, name, model)
    value = assertion.get("value")
    if isinstance(value, list) and base == "g-eval":
        value = "\n".join(str(each) for each in value)
    if not isinstance(value, str):
        raise NotMapped("its value is not a text")
    text = to_item_template(value)
    if base == "g-eval" or (base == "llm-rubric" and assertion.get("threshold") is not None):
        if negated:
            raise NotMapped("a rubric with a score cannot be negated")
        return rubric({**assertion, "threshold": _threshold(assertion, 0.7), "value": text}, name, model)
    grader = {"model-graded-closedqa": closed_question, "llm-rubric": closed_question}.get(base, factuality)
    made = grader(text, name, model)
    if negated:
        made["passing_labels"] = [label for label in made["labels"] if label not in made["passing_labels"]]
    return made


def _judge_model(assertion: Mapping[str, Any]) -> str | None:
    provider = assertion.get("provider")
    if isinstance(provider, dict):
        provider = provider.get("id") or (provider.get("text") if isinstance(provider.get("text"), str) else None)
    return model_name(provider) if isinstance(provider, str) else None


def model_name(provider: str) -> str:
    """The model in a provider's id, such as `openai:chat:gpt-4o`; of other providers, what follows the name."""
    parts = provider.split(":")
    if parts[0] in ("openai", "azure", "azureopenai", "anthropic") and len(parts) > 1:
        kinds = ("chat", "responses", "completion", "messages")
        return ":".join(parts[2:] if parts[1] in kinds and len(parts) > 2 else parts[1:])
    return ":".join(parts[1:]) if len(parts) > 1 else provider


def _python(assertion: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An expression, the body of a function, or a file with `get_assert`, as a grader."""
    import ast

    code = assertion.get("value")
    if not isinstance(code, str) or not code.strip():
        raise NotMapped("it has no code")
    if code.startswith("file://"):
        raise NotMapped("its file is not here")
    if code.endswith(PROMPTFOO_ADAPTER):  # a grader that was exported from here
        if "applies" in assertion:
            raise NotMapped("only some of the tests have it")
        grader = {"type": "python", "name": name, "source": code.removesuffix(PROMPTFOO_ADAPTER)}
        return grader | ({} if assertion.get("threshold") is None else {"pass_threshold": assertion["threshold"]})
    if "def get_assert" not in code:
        lines = code.strip("\n").split("\n")
        body = lines if len(lines) > 1 else [f"return {code.strip()}"]
        code = "def get_assert(output, context):\n" + "\n".join(f"    {line}" for line in body) + "\n"
    source = f"{code.rstrip()}\n\n\nAPPLIES = {assertion.get('applies', '')!r}{PYTHON_ADAPTER}"
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotMapped(f"its code is not valid Python ({error})") from error
    return {
        "type": "python", "name": name, "source": source, "pass_threshold": _threshold(assertion, _ABOVE_ZERO),
    }  # fmt: skip


PROMPTFOO_ADAPTER = '''

def get_assert(output, context):
    """promptfoo calls this function: the score of `grade`, to which promptfoo applies the assertion's threshold."""
    message = {"role": "assistant", "content": output}
    sample = {"output_text": output, "choices": [{"index": 0, "message": message}], "output_tools": []}
    return float(grade(sample, context["vars"]))
'''
