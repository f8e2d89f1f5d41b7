"""Exports an eval as a promptfoo configuration: promptfooconfig.yaml, tests.jsonl, prompts and Python graders."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evals.eval_runs.given_answers import given_completion
from evals.exchange.assertions import OUTPUT, PROMPTFOO_ADAPTER, PYTHON_ADAPTER, assertion_of
from evals.exchange.exported_eval import Export, ExportedEval
from evals.exchange.folder import NotMapped
from evals.exchange.nunjucks import from_item_template, named_variables
from evals.exchange.rubric_prompts import exported_rubric
from evals.graders.model_graders import score_range

CONFIG, TESTS = "promptfooconfig.yaml", "tests.jsonl"
_OPERATIONS = {"eq": "equals", "ne": "not-equals", "like": "contains", "ilike": "icontains"}
_METRICS = {"rouge_1": "rouge-n", "bleu": "bleu", "gleu": "gleu", "meteor": "meteor", "cosine": "similar"}
_SAMPLING = {"max_completion_tokens": "max_tokens", "max_completions_tokens": "max_tokens"}
_APPLIES = re.compile(r"\n\n\nAPPLIES = '(\w*)'$")
_HEAD = "# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json\n"


def promptfoo_export(exported: ExportedEval, base_url: str) -> Export:
    """The files of a promptfoo configuration that calls the models at an address."""
    import yaml

    export = Export()
    tests: list[dict[str, Any]] = [{"vars": dict(row["item"])} for row in exported.rows]
    shared = []
    for criterion in exported.criteria:
        try:
            assertion = _assertion(criterion, base_url, export)
        except NotMapped as error:
            export.lost.append(f"{criterion['name']} ({criterion['type']}): {str(error).rstrip('.')}.")
            continue
        assertion["metric"] = criterion["name"]
        applies = assertion.pop("applies", None)
        if applies is None:
            shared.append(assertion)
            continue
        for test in tests:
            if test["vars"].pop(applies, False):
                test.setdefault("assert", []).append(assertion)
    default: dict[str, Any] = {"assert": shared}
    if any(isinstance(value, list) for test in tests for value in test["vars"].values()):
        default["options"] = {"disableVarExpansion": True}
    prompts, providers = _prompts(exported, tests, base_url, export)
    config = {
        "description": exported.name, "prompts": prompts, "providers": providers, "defaultTest": default,
        "tests": f"file://{TESTS}",
    }  # fmt: skip
    for number, test in enumerate(tests, start=1):
        _warn(test["vars"], number, export)
    export.files[CONFIG] = _HEAD + yaml.safe_dump(config, allow_unicode=True, sort_keys=False, width=10_000)
    export.files[TESTS] = "".join(json.dumps(test, ensure_ascii=False) + "\n" for test in tests)
    return export


def _assertion(criterion: Mapping[str, Any], base_url: str, export: Export) -> dict[str, Any]:
    match criterion["type"]:
        case "string_check":
            return {"type": _OPERATIONS[criterion["operation"]], "value": _reference(criterion)}
        case "text_similarity":
            if criterion["evaluation_metric"] not in _METRICS:
                raise NotMapped(f"promptfoo has no metric {criterion['evaluation_metric']}")
            kind = _METRICS[criterion["evaluation_metric"]]
            assertion: dict[str, Any] = {
                "type": kind,
                "value": _reference(criterion),
                "threshold": _threshold(criterion),
            }
            if kind == "similar":
                config = {"apiBaseUrl": base_url}
                assertion["provider"] = {"id": "openai:embedding:text-embedding-3-large", "config": config}
            return assertion
        case "python":
            return _python(criterion, export)
        case "score_model" | "label_model":
            assertion = exported_rubric(criterion, _instruction(criterion))
            assertion["provider"] = {"id": assertion["provider"], "config": {"apiBaseUrl": base_url}}
            if criterion["type"] == "score_model":
                assertion.setdefault("threshold", sum(score_range(criterion)) / 2)
            return assertion
    raise NotMapped("promptfoo has no such grader")


def _reference(criterion: Mapping[str, Any]) -> str:
    if re.sub(r"\s", "", criterion["input"]) != OUTPUT:
        raise NotMapped(f"its input is not {OUTPUT}")
    return from_item_template(criterion["reference"])


def _threshold(criterion: Mapping[str, Any]) -> float:
    threshold = criterion.get("pass_threshold")
    return 0.5 if threshold is None else float(threshold)


def _python(criterion: Mapping[str, Any], export: Export) -> dict[str, Any]:
    source = criterion["source"]
    if assertion := assertion_of(source):
        return assertion
    base = re.sub(r"\W+", "_", criterion["name"], flags=re.ASCII).strip("_").lower()[:60] or "grader"
    path, number = f"graders/{base}.py", 1
    while path in export.files:
        number += 1
        path = f"graders/{base}_{number}.py"
    applies = {}
    if source.endswith(PYTHON_ADAPTER) and (match := _APPLIES.search(source.removesuffix(PYTHON_ADAPTER))):
        export.files[path] = source[: match.start()] + "\n"
        applies = {"applies": match[1]} if match[1] else {}
    else:
        export.files[path] = source + PROMPTFOO_ADAPTER
    return {"type": "python", "value": f"file://{path}", "threshold": _threshold(criterion), **applies}


def _instruction(criterion: Mapping[str, Any]) -> str:
    if criterion["type"] == "label_model":
        passing = json.dumps(criterion["passing_labels"])
        return (
            f"Choose one of the labels {json.dumps(criterion['labels'])}. Answer with JSON: reason, one or two "
            f"sentences; pass, true if the label is one of {passing}, else false; score, 1 if pass is true, else 0."
        )
    low, high = score_range(criterion)
    return (
        f"Answer with JSON: reason, one or two sentences; score, a number from {low:g} to {high:g}; pass, always true."
    )


def _prompts(
    exported: ExportedEval, tests: list[dict[str, Any]], base_url: str, export: Export
) -> tuple[list[Any], list[Any]]:
    """promptfoo's prompts and providers; stored answers are a variable that the provider `echo` returns."""
    if exported.has_answers:
        name = "output_text"
        while any(name in test["vars"] for test in tests):
            name = f"_{name}"
        for test, row in zip(tests, exported.rows, strict=True):
            test["vars"][name] = given_completion(row.get("sample") or {}).text
        return [f"{{{{{name}}}}}"], ["echo"]
    prompts: dict[str, str] = {}
    providers: list[dict[str, Any]] = []
    for request in exported.requests:
        try:
            text = _prompt(request["input_messages"])
        except NotMapped as error:
            export.lost.append(f"a prompt: {str(error).rstrip('.')}.")
            continue
        prompts.setdefault(text, f"prompts/prompt_{len(prompts) + 1}.json")
        provider = _provider(request, base_url, export)
        if provider not in providers:
            providers.append(provider)
    if len({(json.dumps(r["input_messages"]), r["model"]) for r in exported.requests}) < len(prompts) * len(providers):
        export.lost.append("promptfoo runs each prompt with each provider; this eval has fewer combinations.")
    for text, path in prompts.items():
        export.files[path] = text + "\n"
    return [f"file://{path}" for path in prompts.values()], providers


def _prompt(messages: Mapping[str, Any]) -> str:
    if messages["type"] == "item_reference":
        return from_item_template(f"{{{{{messages['item_reference'].strip('{} ')}}}}}").replace("}}", " | dump }}")
    return json.dumps([_message(message) for message in messages["template"]], ensure_ascii=False, indent=2)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return {"role": message["role"], "content": from_item_template(content)}
    parts = [_part(part) for part in (content if isinstance(content, list) else [content])]
    if len(parts) == 1 and parts[0]["type"] == "text":
        return {"role": message["role"], "content": parts[0]["text"]}
    return {"role": message["role"], "content": parts}


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, str) or "text" in part:
        return {"type": "text", "text": from_item_template(part if isinstance(part, str) else part["text"])}
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": from_item_template(part["image_url"])}}
    audio = part["input_audio"]
    return {"type": "input_audio", "input_audio": {**audio, "data": from_item_template(audio["data"])}}


def _provider(request: Mapping[str, Any], base_url: str, export: Export) -> dict[str, Any]:
    config: dict[str, Any] = {"apiBaseUrl": base_url}
    for key, value in (request.get("sampling_params") or {}).items():
        if key == "text":
            export.lost.append("sampling_params.text: set response_format in the provider's config.")
        elif value is not None:
            config[_SAMPLING.get(key, key)] = value
    return {"id": f"openai:chat:{request['model']}", "config": config}


def _warn(given: Mapping[str, Any], number: int, export: Export) -> None:
    for name, text in _texts(given):
        if text.startswith("file://"):
            export.lost.append(f"row {number}: promptfoo reads {name} from a file, because it begins with file://.")
        if other := next((each for _, each in named_variables(text) if each in given), None):
            export.lost.append(f"row {number}: promptfoo fills in {{{{{other}}}}} in {name}.")


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(part, name or str(key))
