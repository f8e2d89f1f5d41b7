"""promptfoo's rubrics as graders with a judge, and back. The prompts are Parley's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from evals.exchange.folder import NotMapped, read_json
from evals.exchange.nunjucks import from_item_template, to_item_template
from evals.graders.templates import content_texts, has_media

_OUTPUT = "{{sample.output_text}}"
_TO_SAMPLE = {"output": _OUTPUT}
_FROM_SAMPLE = {"sample.output_text": "{{output}}"}
PASS, FAIL = "pass", "fail"
# promptfoo's categories of factuality; an answer fails only if it contradicts the reference.
_FACTS = {
    "subset": "The answer is a subset of the reference and consistent with it.",
    "superset": "The answer is a superset of the reference and consistent with it.",
    "same": "The answer has the same details as the reference.",
    "contradiction": "The answer contradicts the reference.",
    "immaterial": "They differ, but not in facts.",
}


def closed_question(criterion: str, name: str, model: str) -> dict[str, Any]:
    """A grader that passes if an answer meets a criterion."""
    ask = f"Criterion:\n{criterion}\n\nAnswer:\n{_OUTPUT}\n\nLabel it {PASS} if it meets the criterion, else {FAIL}."
    return _label_model(name, model, _messages("Decide whether an answer meets a criterion.", ask), (PASS, FAIL), PASS)


def factuality(reference: str, name: str, model: str) -> dict[str, Any]:
    """A grader that fails if an answer contradicts a reference."""
    labels = "\n".join(f"{label}: {meaning}" for label, meaning in _FACTS.items())
    ask = f"Reference:\n{reference}\n\nAnswer:\n{_OUTPUT}\n\nLabels:\n{labels}"
    made = _label_model(name, model, _messages("Compare the facts of an answer with a reference.", ask), _FACTS)
    return made | {"passing_labels": [label for label in _FACTS if label != "contradiction"]}


def rubric(assertion: Mapping[str, Any], name: str, model: str) -> dict[str, Any]:
    """A grader with a score, or with labels if the assertion's `config` has them; with its own prompt if it has one."""
    config = assertion.get("config") or {}
    if not isinstance(config, dict):
        raise NotMapped("its config is not an object")
    messages = _own_prompt(assertion) if "rubricPrompt" in assertion else _rubric_prompt(str(assertion["value"]))
    if "labels" in config:
        made = _label_model(name, model, messages, config["labels"])
        return made | {"passing_labels": config.get("passing_labels", [])}
    made = {"type": "score_model", "name": name, "model": model, "input": messages}
    if "range" in config:
        made["range"] = config["range"]
    return made if assertion.get("threshold") is None else made | {"pass_threshold": float(assertion["threshold"])}


def exported_rubric(grader: Mapping[str, Any], instruction: str) -> dict[str, Any]:
    """A score_model or label_model grader as an llm-rubric with its own prompt.

    Args:
        instruction: the JSON that promptfoo expects, in words.

    Raises:
        NotMapped: a variable has no counterpart.
    """
    if "sampling_params" in grader:
        raise NotMapped("the judge's sampling_params are not exported: add them to the provider's config")
    if any(has_media(message["content"]) for message in grader["input"]):
        raise NotMapped("a judge's images are not exported")
    messages = [
        {
            "role": "system" if message["role"] == "developer" else message["role"],
            "content": "\n".join(from_item_template(text, _FROM_SAMPLE) for text in content_texts(message["content"])),
        }
        for message in grader["input"]
    ]
    config = {key: grader[key] for key in ("range", "labels", "passing_labels") if grader.get(key) is not None}
    assertion: dict[str, Any] = {
        "type": "llm-rubric",
        "value": grader["name"],
        "rubricPrompt": [*messages, {"role": "user", "content": instruction}],
        "config": config | {"instruction": instruction},
        "provider": f"openai:chat:{grader['model']}",
    }
    threshold = grader.get("pass_threshold")
    return assertion if threshold is None else assertion | {"threshold": threshold}


def _own_prompt(assertion: Mapping[str, Any]) -> list[dict[str, str]]:
    prompt, instruction = assertion["rubricPrompt"], (assertion.get("config") or {}).get("instruction")
    if isinstance(prompt, str) and prompt.lstrip().startswith("["):
        prompt = read_json(prompt, "its rubricPrompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    value = assertion.get("value")
    others = _TO_SAMPLE | ({"rubric": to_item_template(value)} if isinstance(value, str) else {})
    messages = []
    for message in prompt if isinstance(prompt, list) else [None]:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise NotMapped("its rubricPrompt is not a text or a list of messages with texts")
        if message["content"] != instruction:
            role = str(message.get("role", "user"))
            messages.append({"role": role, "content": to_item_template(message["content"], others)})
    return messages


def _rubric_prompt(criterion: str) -> list[dict[str, str]]:
    ask = f"Criterion:\n{criterion}\n\nAnswer:\n{_OUTPUT}\n\nScore from 0 (not met at all) to 1 (fully met)."
    return _messages("Grade how well an answer meets a criterion.", ask)


def _messages(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _label_model(
    name: str, model: str, messages: Sequence[Mapping[str, str]], labels: Any, passing: str = ""
) -> dict[str, Any]:
    return {
        "type": "label_model",
        "name": name,
        "model": model,
        "input": list(messages),
        "labels": list(labels),
        "passing_labels": [passing] if passing else [],
    }
